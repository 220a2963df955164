"""English words that carry no subject of a question; the knowledge check passes over them."""

_FUNCTION_WORDS = """
    a an the this that these those some any every each all both either neither no not none other another
    else such i me my mine myself you your yours we us our ours he him his she her hers it its they them
    their theirs who whom whose what which when where why how whenever whether is are am was were be been
    being do does did done doing have has had having can could will would shall should may might must ll
    ve re d s t m isn aren wasn weren don doesn didn haven hasn hadn won wouldn couldn shouldn and or but
    if then than as so because while until till unless since once after before during though at by for
    from in into of off on onto out over per to toward towards under up upon with without within about
    above across against along among around behind below beneath beside between beyond down inside near
    next outside past through via front back left right top bottom side end please thanks thank hi hey
    hello ok okay yes here there now again already still yet soon immediately instantly directly always
    ever never only just also too very really quite right away once anymore today tonight tomorrow
    currently suddenly quickly maybe tell let know say alert warn notify inform report send give want need
    like would ask watch look see show make sure keep get gets got use start stop if possible camera video
    picture frame image view screen scene feed
"""
_PLACES = """
    room living bedroom kitchen bathroom hall hallway corridor house home building flat apartment office
    shop store garden yard backyard lawn driveway drive path street road pavement sidewalk parking lot
    property place area door doorway doorstep porch entrance exit gate fence stairs steps floor ground
    desk counter shelf
"""

FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
PLACES = frozenset(_PLACES.split())
"""Where a camera may hang or look; alone they are no subject."""
