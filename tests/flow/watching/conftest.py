"""The fixtures of drawn nights with watched stars."""

from watching_sky import fisheye as fisheye
from watching_sky import quiet_fisheye as quiet_fisheye
from watching_sky import quiet_lake as quiet_lake
from watching_sky import sky as sky
