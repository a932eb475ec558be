"""PointCloud2 messages from and to NumPy, without a Python loop over points."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured, unstructured_to_structured
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from da3_ros.errors import InputError

_SCALARS = {
    PointField.INT8: "i1",
    PointField.UINT8: "u1",
    PointField.INT16: "i2",
    PointField.UINT16: "u2",
    PointField.INT32: "i4",
    PointField.UINT32: "u4",
    PointField.FLOAT32: "f4",
    PointField.FLOAT64: "f8",
}
_LITTLE = sys.byteorder == "little"


def create_cloud(
    header: Header, fields: Sequence[PointField], points: Iterable, point_step: int | None = None
) -> PointCloud2:
    """An unorganised cloud with the given ``fields``.

    ``points``: N tuples with one value for each field; or an (N, F) array, where all fields are of one type; or
    an (N,) structured array laid out as the fields are (``point_step`` bytes a point, by default as many as
    they need). ``is_dense`` is False, as nothing is known about NaN. Raises InputError on anything else.
    """
    dtype = _dtype(fields, point_step)
    if not isinstance(points, np.ndarray):
        points = np.array([tuple(point) for point in points], dtype=dtype)
    elif points.dtype.names is None:
        if len({field.datatype for field in fields}) > 1:
            raise InputError("fields of several types need points as tuples or as a structured array, not a plain one")
        points = unstructured_to_structured(points, dtype=dtype)
    elif points.dtype != dtype:
        raise InputError(f"the points are laid out as {points.dtype}, the fields as {dtype}: make them agree")
    if points.ndim != 1:
        raise InputError(f"points of shape {points.shape} are not a list of points: flatten organised clouds")
    cloud = PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=not _LITTLE,
        point_step=dtype.itemsize,
        row_step=dtype.itemsize * len(points),
        is_dense=False,
    )
    cloud.data = array.array("B", points.tobytes())  # an array: rclpy checks anything else byte by byte
    return cloud


def create_cloud_xyz32(header: Header, points: Iterable) -> PointCloud2:
    """A cloud of float32 x, y, z; ``points`` as for ``create_cloud``."""
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate("xyz")]
    return create_cloud(header, fields, points)


def read_points(cloud: PointCloud2, field_names: Iterable[str] | None = None, skip_nans: bool = False) -> np.ndarray:
    """(N,) structured array of the cloud's points, row by row, with the named fields (all where None).

    A field of ``count`` n > 1 becomes n fields ``name_0`` ... With ``skip_nans`` points with a NaN in these
    fields are left out, unless the cloud says that it is dense. The array shares the message's memory where it
    can. Raises InputError for a field that the cloud does not have.
    """
    dtype = _dtype(cloud.fields, cloud.point_step)
    if bool(cloud.is_bigendian) == _LITTLE:
        dtype = dtype.newbyteorder()
    points = np.ndarray(cloud.width * cloud.height, dtype=dtype, buffer=cloud.data)
    if field_names is not None:
        names = list(field_names)
        if missing := sorted(set(names) - set(dtype.names or ())):
            raise InputError(f"the cloud has no fields {missing}; it has {list(dtype.names or ())}")
        points = points[names]
    if not dtype.isnative:
        points = points.astype(points.dtype.newbyteorder("="))
    if skip_nans and not cloud.is_dense:
        points = points[~np.any([np.isnan(points[name]) for name in points.dtype.names or ()], axis=0)]
    return points


def read_points_numpy(
    cloud: PointCloud2, field_names: Iterable[str] | None = None, skip_nans: bool = False
) -> np.ndarray:
    """(N, F) array of the named fields; see ``read_points``.

    Raises InputError unless they have the type of the cloud's first field.
    """
    names = None if field_names is None else list(field_names)
    if any(
        field.datatype != cloud.fields[0].datatype for field in cloud.fields if names is None or field.name in names
    ):
        raise InputError(f"fields {names or 'of this cloud'} are of several types: use read_points")
    return structured_to_unstructured(read_points(cloud, names, skip_nans))


def _dtype(fields: Sequence[PointField], point_step: int | None) -> np.dtype:
    """The structured type of one point; a field of ``count`` n > 1 is n fields."""
    names: list[str] = []
    formats: list[str] = []
    offsets: list[int] = []
    for field in fields:
        scalar = np.dtype(_SCALARS[field.datatype])
        for i in range(field.count):
            names.append(f"{field.name}_{i}" if field.count > 1 else field.name)
            formats.append(scalar.str)
            offsets.append(field.offset + i * scalar.itemsize)
    size = max((offset + np.dtype(each).itemsize for offset, each in zip(offsets, formats, strict=True)), default=0)
    itemsize = size if point_step is None else point_step
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize})
