"""From the file of a frame to a small table: one file of code per physical step.

``read`` → ``calibrate`` → ``background`` → ``detect`` → ``measure`` → ``growth`` → ``astrometry`` →
``quality``, chained by ``reduce``. Arrays in, arrays out; nothing here knows lakes, dask or databases.
"""
