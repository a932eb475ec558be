"""What an estimate is worth: errors against truth, and what can be said without one. Pure functions, no ROS."""
