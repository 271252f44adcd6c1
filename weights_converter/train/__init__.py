"""Photographs -> trained network: the ``train`` command and its parts (PyTorch, the ``train`` extra).

pictures.py  photographs of folders and tar files, the held-out subset, batches of crops
plan.py      one plan of a whole training: stages, crops, learning rate; a training may be run in pieces
loss.py      rate and distortion of a batch
trainer.py   one training step: gradients, on a GPU as graphs (graphs.py), on a CPU shared out to cores
optimiser.py  the change of the weights: Adam, or SOAP (soap.py)
state.py     the files of a run: state to go on from, weights in the published layout, log
loop.py      the run itself
validation.py  rate and distortion on held-out pictures and on folders
command.py   arguments

Nothing here is imported without PyTorch but command.py's arguments. What was compared before the defaults were chosen
is in weights_converter/training.md.
"""
