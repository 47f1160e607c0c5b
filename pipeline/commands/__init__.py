"""Layer: the command line. One small module per command; `python -m pipeline --help` lists them."""
