"""The demo: a small web application to click through, so that you see what coatcheck does. `make demo`, or `python -m demo`."""
