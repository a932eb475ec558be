"""What rosbag2 wants to know of a recording: metadata.yaml, and the same within the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

_NEVER = {"sec": 2147483647, "nsec": 4294967295}
_VERSION = 9  # of rosbag2's metadata


@dataclass
class RecordedTopic:
    """A topic and what was written of it. ``latched``: offered to those who come later."""

    channel: int
    name: str
    type: str
    type_hash: str
    latched: bool
    messages: int = 0
    first_ns: int = 2**63 - 1
    last_ns: int = 0

    def note(self, receive_ns: int) -> None:
        """Another message."""
        self.messages += 1
        self.first_ns, self.last_ns = min(self.first_ns, receive_ns), max(self.last_ns, receive_ns)


def _qos(latched: bool) -> list[dict[str, Any]]:
    return [
        {
            "history": "keep_last",
            "depth": 10,
            "reliability": "reliable",
            "durability": "transient_local" if latched else "volatile",
            "deadline": dict(_NEVER),
            "lifespan": dict(_NEVER),
            "liveliness": "automatic",
            "liveliness_lease_duration": dict(_NEVER),
            "avoid_ros_namespace_conventions": False,
        }
    ]


@cache
def offered_qos(latched: bool) -> str:
    """The quality of service of a topic, as YAML."""
    return _yaml(_qos(latched))


def folder_metadata(file: str, topics: Sequence[RecordedTopic]) -> str:
    """metadata.yaml of a folder with one mcap ``file``."""
    return _yaml({"rosbag2_bagfile_information": _information(file, topics)}) + "\n"


def stored_metadata(file: str, topics: Sequence[RecordedTopic]) -> str:
    """The same for the record ``rosbag2`` of the file itself."""
    return _yaml(_information(file, topics))


def _information(file: str, topics: Sequence[RecordedTopic]) -> dict[str, Any]:
    first_ns = min((topic.first_ns for topic in topics), default=2**63 - 1)
    extent = {
        "starting_time": {"nanoseconds_since_epoch": first_ns},
        "duration": {"nanoseconds": max(0, max((topic.last_ns for topic in topics), default=0) - first_ns)},
        "message_count": sum(topic.messages for topic in topics),
    }
    return {
        "version": _VERSION,
        "storage_identifier": "mcap",
        "relative_file_paths": [file],
        **extent,
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": _qos(topic.latched),
                    "type_description_hash": topic.type_hash,
                },
                "message_count": topic.messages,
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "files": [{"path": file, **extent}],
        "custom_data": None,
        "ros_distro": "da3_ros",
    }


def _yaml(value: Any) -> str:
    """As text without anchors: rosbag2's own parser is told everything twice."""
    dumper = type("Plain", (getattr(yaml, "CSafeDumper", yaml.SafeDumper),), {"ignore_aliases": lambda *_: True})
    return yaml.dump(value, Dumper=dumper, default_flow_style=False).strip()
