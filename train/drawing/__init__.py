"""Drawing by writing: a caption becomes a short program of circles, lines and polygons, and that a picture.

    shapes.py    the inner form: a few shapes on a grid of whole numbers; painted as pixels
    svg.py, tikz.py   the same written in either language, and read back
    figures.py   how a horse, a house, a girl are drawn, of parts, each time a little otherwise
    scenes.py    what is asked for and how it is said; drawings with captions, any number from a seed
    looking.py   what is to be seen in a drawing, found from its shapes alone: the judge of what a model drew
    score.py     how good drawings are: they can be read, show what was asked, cover the pixels of another
"""
