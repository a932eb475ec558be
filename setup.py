"""`pip install .`: the parts that need no ROS, and the console script da3-ros.

ROS builds the package with CMakeLists.txt (messages, launch files, node); this file only mirrors its Python part.
"""

import os
import xml.etree.ElementTree as ElementTree
from glob import glob

from setuptools import find_namespace_packages, setup

package = ElementTree.parse(os.path.join(os.path.dirname(os.path.abspath(__file__)), "package.xml")).getroot()

setup(
    name="da3_ros",
    version=package.findtext("version"),
    description=package.findtext("description"),
    license="Apache-2.0",
    # Folders without an __init__.py too: data, and _unbuilt, where `import da3_ros.msg` ends without ROS.
    packages=find_namespace_packages(include=["da3_ros", "da3_ros.*"]),
    package_data={"": ["*.json", "*.md", "*.npz", "*.safetensors", "*.txt", "*.yaml"]},
    data_files=[
        ("share/da3_ros", ["package.xml"]),
        ("share/da3_ros/config", sorted(path for path in glob("config/*") if os.path.isfile(path))),
        ("share/da3_ros/config/train", sorted(glob("config/train/*"))),
        ("share/da3_ros/launch", sorted(glob("launch/*.py"))),
        ("share/da3_ros/msg", sorted(glob("msg/*.msg"))),
    ],
    python_requires=">=3.10",
    install_requires=[
        "gtsam>=4.3",
        "huggingface_hub>=1.0",
        # Checksums three times as fast as Python's zlib, which is used where there are no wheels of it.
        "isal; platform_machine in 'x86_64 AMD64 aarch64 arm64'",
        "lz4",
        "mcap>=1.5",
        "numpy",
        "opencv-python-headless",
        "pillow",
        "PyYAML",
        "rosbags",
        "rosbags-image",
        "safetensors",
        "torch>=2.6",
        "tqdm",
        "transforms3d",
    ],
    extras_require={
        # ONNX files (da3_ros/model/onnx_export.py): two packages to write them, one to check them.
        "export": ["onnx", "onnxruntime", "onnxscript"],
        # Drawing 3D Gaussians (da3_ros/rendering.py) compiles CUDA code at its first use.
        "render": ["gsplat>=1.5"],
        # Trajectories and point clouds against truth (da3_ros/evaluation).
        "evaluation": ["evo>=1.30", "scipy"],
        # Plots of `da3-ros bench --plot`.
        "plots": ["matplotlib"],
        # Many recordings on several machines (da3_ros/evaluation/ray_workers.py).
        "ray": ["ray>=2.9"],
        # Recordings for the Rerun viewer (da3_ros/evaluation/rerun_file.py): 0.2 GB.
        "rerun": ["rerun-sdk>=0.24"],
        # Pictures on the surfaces of scenes for training (da3_ros/training/worlds/image_textures.py).
        "textures": ["scikit-image>=0.22"],
        # Curves and pictures of training runs (da3_ros/training/journal.py).
        "tensorboard": ["tensorboard"],
        # Surfaces fused from depth (da3_ros/evaluation/fusion.py): 0.45 GB.
        "tsdf": ["open3d>=0.19,<0.20"],
    },
    entry_points={"console_scripts": ["da3-ros = da3_ros.cli.main:main"]},
)
