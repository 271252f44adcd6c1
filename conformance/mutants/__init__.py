"""How good is the kit? Small wrong changes of the decoder and of the runner, and which of them are noticed."""
