"""``tf_transformations``: quaternions (x, y, z, w), Euler angles and 4x4 matrices."""

try:
    from tf_transformations import (
        concatenate_matrices,
        euler_from_quaternion,
        quaternion_from_euler,
        quaternion_from_matrix,
        quaternion_inverse,
        quaternion_matrix,
        quaternion_multiply,
        quaternion_slerp,
        translation_from_matrix,
        translation_matrix,
    )
except ImportError:
    from da3_ros.ros.compat._fallback.tf_transformations import (
        concatenate_matrices,
        euler_from_quaternion,
        quaternion_from_euler,
        quaternion_from_matrix,
        quaternion_inverse,
        quaternion_matrix,
        quaternion_multiply,
        quaternion_slerp,
        translation_from_matrix,
        translation_matrix,
    )

__all__ = [
    "concatenate_matrices",
    "euler_from_quaternion",
    "quaternion_from_euler",
    "quaternion_from_matrix",
    "quaternion_inverse",
    "quaternion_matrix",
    "quaternion_multiply",
    "quaternion_slerp",
    "translation_from_matrix",
    "translation_matrix",
]
