"""The pipeline of one frame: file in, a row of ``frames`` and measured sources out."""
