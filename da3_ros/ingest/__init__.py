"""Message-shaped objects to frames, frames to synchronized sets: for live topics and bags alike, without rclpy."""
