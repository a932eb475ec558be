"""Cameras that several tests of this folder use."""

import numpy as np

from da3_ros.datatypes import CameraCalibration

# Coefficients and model of three real kinds of lens.
PLUMB_BOB = ((-0.31, 0.11, 0.0008, -0.0004, -0.01), "plumb_bob")
RATIONAL = ((0.6, -1.2, 0.0004, -0.0002, 0.9, 0.9, -1.1, 0.8), "rational_polynomial")
FISHEYE = ((0.02, -0.01, 0.003, -0.0005), "equidistant")


def calibration(width, height, fx, cx=None, cy=None, D=(), model="none"):
    cx = (width - 1) / 2 if cx is None else cx
    cy = (height - 1) / 2 if cy is None else cy
    return CameraCalibration(width, height, np.array([[fx, 0, cx], [0, fx * 1.01, cy], [0, 0, 1.0]]), D, model)
