"""Session libraries side by side: what each one adds to the CPU cost of a request, under a real server.

Run it by ``python -m bench`` or ``make bench``; ``bench/README.md`` says how it measures and how to add a row.
"""
