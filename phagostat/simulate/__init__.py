"""The simulator and its truth; shares nothing with the pipeline it judges but vocabulary and readers."""
