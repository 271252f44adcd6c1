"""From a trained PyTorch checkpoint to the integer model that refcodec runs, without PyTorch.

Everything that needs real arithmetic lives here, ahead of coding: calibration, rounding of weights, bounds, and the
universal tables of SPEC annex A. refcodec itself reads the integers and never imports this package.
"""
