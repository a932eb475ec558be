"""The Depth Anything 3 networks in plain PyTorch: tensors in, tensors out."""

from da3_ros.model.backbone import Features, ViewState
from da3_ros.model.conditioning import predict_with_cameras
from da3_ros.model.nested import NestedDepthAnything3
from da3_ros.model.network import DepthAnything3
from da3_ros.model.prediction import Prediction
from da3_ros.model.single_view import SingleViewDepth
from da3_ros.model.variants import VARIANTS, Variant
from da3_ros.model.weights import load_model, save_checkpoint

__all__ = [
    "VARIANTS", "DepthAnything3", "Features", "NestedDepthAnything3", "Prediction", "SingleViewDepth", "Variant",
    "ViewState",
    "load_model", "predict_with_cameras", "save_checkpoint",
]
