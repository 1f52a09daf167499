"""Step table, planner, graphs and the one loop."""
