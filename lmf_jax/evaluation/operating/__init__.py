"""Operating points: decision thresholds of one class, their error rates and curves.

``effective_size`` accounts for several images of one lesion or patient; ``cuts`` counts the errors
at every threshold; ``thresholds`` chooses one; ``rates`` estimates what to expect of it. All
functions take one class: ``is_class [n]`` and ``probability [n]``. An image is called positive if
its probability is at least the threshold.
"""
