"""Run continuously: machines (event to actions) and codecs, all of them pure."""
