"""World model of VDFD: three branches whose imagination conditions the mixer (``model.py``)."""
