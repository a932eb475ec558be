"""Estimates to message-shaped objects: for live topics and recordings alike, without rclpy."""
