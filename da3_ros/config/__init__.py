"""The one configuration tree: every parameter's default, description, range and choices, written once.

ROS parameter declaration, YAML files, the README table and command line options are all made from it. Names are
dotted (``sync.slop_s``); the cameras' own part is ``camera.<name>.<field>`` for each name in ``cameras``.
"""

from da3_ros.config.choices import (
    ANY_VIEW_VARIANTS,
    METRIC_VARIANT,
    NESTED_VARIANTS,
    PROCESS_RES_METHODS,
    RANDOM_CHECKPOINT,
    REFERENCE_VIEWS,
    SINGLE_VIEW_VARIANTS,
    VARIANTS,
)
from da3_ros.config.fields import Parameter, param, to_flat, value_problem
from da3_ros.config.flat import from_flat, parameters
from da3_ros.config.network import ModelConfig, ScaleConfig, WindowParameters
from da3_ros.config.robot import (
    CameraConfig,
    DiagnosticsConfig,
    FramesConfig,
    LoopsConfig,
    MapConfig,
    PointsConfig,
    PublishConfig,
    SyncConfig,
)
from da3_ros.config.tree import Config, PipelineConfig

__all__ = [
    "ANY_VIEW_VARIANTS",
    "METRIC_VARIANT",
    "NESTED_VARIANTS",
    "PROCESS_RES_METHODS",
    "RANDOM_CHECKPOINT",
    "REFERENCE_VIEWS",
    "SINGLE_VIEW_VARIANTS",
    "VARIANTS",
    "CameraConfig",
    "Config",
    "DiagnosticsConfig",
    "FramesConfig",
    "LoopsConfig",
    "MapConfig",
    "ModelConfig",
    "Parameter",
    "PipelineConfig",
    "PointsConfig",
    "PublishConfig",
    "ScaleConfig",
    "SyncConfig",
    "WindowParameters",
    "from_flat",
    "param",
    "parameters",
    "to_flat",
    "value_problem",
]
