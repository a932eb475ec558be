"""Depth Anything 3 for ROS 2: synchronized cameras in, depth, confidence, clouds and poses out."""

import os
import pkgutil

# The build generates `da3_ros.msg` into the install space. Where this file is imported from the source tree
# (tests, tools), that half of the package is found through sys.path; without a build, `_unbuilt` says so.
__path__ = pkgutil.extend_path(__path__, __name__)
__path__.append(os.path.join(os.path.dirname(__file__), "_unbuilt"))
