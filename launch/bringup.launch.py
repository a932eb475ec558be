"""Starts da3_node, and RViz if asked for: `ros2 launch da3_ros bringup.launch.py config:=stereo`.

What runs is said in da3_ros/bringup.py; this file only passes the arguments on.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from da3_ros.bringup import DEFAULT_CONFIG, LOG_LEVELS, Process, bringup

_BOOLEAN = ("true", "false")
ARGUMENTS = [
    DeclareLaunchArgument(
        "config",
        default_value=DEFAULT_CONFIG,
        description="ROS parameter file, or the name of an example in the config folder of this package",
    ),
    DeclareLaunchArgument(
        "model", default_value="", description="network variant, such as da3-base; empty: as the config says"
    ),
    DeclareLaunchArgument(
        "checkpoint",
        default_value="",
        description="safetensors file or folder, hub id, or 'random' (untrained); empty: as the config says",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node and all its topics"),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=_BOOLEAN, description="take the time from /clock"
    ),
    DeclareLaunchArgument("rviz", default_value="false", choices=_BOOLEAN, description="start RViz too"),
    DeclareLaunchArgument("log_level", default_value="info", choices=LOG_LEVELS, description="log level of the node"),
    DeclareLaunchArgument(
        "autostart",
        default_value="true",
        choices=_BOOLEAN,
        description="configure and activate the node; false: a lifecycle manager does it",
    ),
]


def to_node(process: Process) -> Node:
    """The launch action for ``process``. All end when one of them does, as with `da3-ros bringup`."""
    return Node(
        name=process.name,
        package=process.package,
        executable=process.executable,
        namespace=process.namespace,
        arguments=list(process.arguments),
        ros_arguments=process.ros_arguments,
        parameters=[source if isinstance(source, dict) else str(source) for source in process.parameters],
        additional_env=dict(process.environment),
        output="screen",
        on_exit=EmitEvent(event=Shutdown(reason=f"{process.name} ended")),
    )


def start(context: LaunchContext) -> list[Node]:
    """The processes for the arguments that were given."""
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    processes = bringup(
        values["config"],
        model=values["model"],
        checkpoint=values["checkpoint"],
        namespace=values["namespace"],
        use_sim_time=values["use_sim_time"] == "true",
        rviz=values["rviz"] == "true",
        log_level=values["log_level"],
        autostart=values["autostart"] == "true",
    )
    return [to_node(process) for process in processes]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
