"""The converters, one file each: ``convert(request, out)`` writes the other format into ``out``.

Where the source is no format that is served, ``answer(request, out)`` gives its library's own answers, to compare with.
They run in the process that ``conversion.process`` shuts in, each with its heavy libraries at the top.
"""
