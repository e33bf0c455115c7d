"""Light curves after calibration: detrending, binning, statistics, noise, periods; arrays in, arrays out."""
