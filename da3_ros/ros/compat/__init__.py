"""The only place that knows whether a ROS 2 distribution is installed.

Each module here exports, under the upstream names, the part of one upstream package that this project
uses: the package itself where it imports, else a small implementation of our own (``_fallback``) that behaves
the same. The rest of the project imports these modules and never asks which one it got.
"""
