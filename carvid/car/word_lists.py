"""Lists of English words by which a place is known from what only looks like one.

All are in lower case.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = _words("the a an")
NAMELESS = ARTICLES | _words(
    "one ones thing object item something someone anything somebody it this that these those is "
    "which who"
)
"""Words that name nothing: an expression of them alone gives CLIP nothing to look for."""

BREAKS = _words(
    "of in on at to by for from with without and or but near next beside behind under over above "
    "below beneath between among against across along around inside outside into onto through "
    "toward towards opposite off up down out away as than like that which who whose while when "
    "where is are was were has have had does do did not very here there now then after before "
    "alone dressed seated parked located held ridden covered made left right please"
)
"""Words that end the noun phrase at the head of an expression; verbs in -ing do so, too."""

NOT_VERBS = _words(
    "wing building painting ring string king railing ceiling opening landing crossing drawing "
    "thing clothing sling spring swing earring wedding pudding dumpling duckling gosling sibling "
    "sapling bling boxing viking parking stocking herring starling"
)
"""Words in -ing that name things."""

PEOPLE = _words(
    "person man woman boy girl guy lady gentleman kid child baby toddler teenager adult player "
    "batter catcher umpire pitcher goalie skier skater surfer snowboarder skateboarder rider "
    "jockey biker cyclist motorcyclist driver runner dancer singer swimmer climber worker soldier "
    "officer policeman fireman cop farmer chef cook waiter waitress bride groom nurse doctor "
    "teacher student dude fellow male female mom mother dad father son daughter brother sister "
    "grandma grandpa judoka fighter boxer wrestler acrobat clown passenger pedestrian"
)
ANIMALS = _words(
    "animal dog puppy hound retriever cat kitten kitty horse pony foal cow calf bull ox pig piglet "
    "hog sheep lamb ram goat kid rabbit bunny hare elephant tiger lion leopard cheetah bear panda "
    "zebra giraffe camel llama alpaca deer moose elk antelope buffalo bison rhino hippo monkey ape "
    "gorilla bird parrot pigeon seagull eagle owl swan duck duckling goose chicken hen rooster "
    "turkey penguin ostrich flamingo fish goldfish shark whale dolphin seal turtle tortoise frog "
    "toad snake lizard crocodile alligator crab octopus squid butterfly bee snail spider insect "
    "mouse rat squirrel fox wolf koala kangaroo donkey mule"
)
VEHICLES = _words(
    "car taxi cab van bus coach truck lorry train tram bicycle bike motorcycle motorbike scooter "
    "moped tractor airplane aeroplane plane jet helicopter rocket boat ship sailboat yacht canoe "
    "kayak skateboard surfboard snowboard cart wagon carriage vehicle"
)
BEINGS = PEOPLE | ANIMALS
INANIMATE = _words(
    "sofa couch chair armchair bench bed table vase pot plant flower tree umbrella parasol "
    "suitcase bag backpack handbag ball basketball kite bat racket frisbee bottle glass cup mug "
    "bowl plate fork knife spoon banana apple orange strawberry lemon carrot broccoli sandwich "
    "burger hamburger hotdog pizza donut doughnut cake muffin cupcake book clock laptop "
    "computer keyboard monitor television tv remote microwave oven toaster sink refrigerator "
    "fridge toilet hydrant lamp candle balloon robot teddy doll toy guitar drum pumpkin snowman "
    "mushroom cactus rose sunflower gift box"
)
THINGS = BEINGS | VEHICLES | INANIMATE
"""Things that a word of place may stand before ("front cow", "middle chair")."""

BEST = PEOPLE - _words("person man woman boy girl guy lady kid child baby dude male female")
"""Of them, "top" says how good they are."""

LOOKS = _words(
    "red green blue yellow orange purple pink brown black white grey gray golden gold silver beige "
    "tan dark light pale bright spotted striped colored coloured young old older younger small big "
    "little large tall short fat thin smiling"
)
"""Adjectives; "black and white" is one thing, "dog and cat" are two."""

COMPOUNDS = _words(
    "hand hands handed arm leg foot feet eye ear shoulder knee elbow thigh calf shin ankle "
    "wrist finger thumb toe paw hoof claw wing wings fin flipper horn antler tusk tooth cheek "
    "breast lung kidney hip brow eyebrow nostril temple brain hemisphere bicep biceps palm fist "
    "forearm shoe boot sock glove mitten sleeve pocket sandal slipper skate ski earring lens "
    "strap handle pedal handlebar headlight taillight light mirror wheel tire tyre door window "
    "seat lane turn turns signal blinker indicator rail track bank shore wall panel half part "
    "portion section edge corner end side quarter row column aisle page margin arrow button "
    "click field fielder winger back wingback drive path fork exit entrance flank engine turret "
    "pane shutter drawer shelf bower luggage over overs alone behind front rear sided facing "
    "leaning looking pointing limb dress chest jaw armpit guard tackle midfielder forward lapel "
    "collar hook jab uppercut parenthesis bracket"
)
"""Nouns that "left" or "right" before them belongs to: "the left hand", "the right lane"."""
RIGHT = _words(
    "whale angle angles triangle answer choice size place time moment tool amount order thing "
    "decision spot job fit term note word name number direction way"
)
"""Likewise of "right" alone, which has more senses."""

PARTS = _words(
    "stripe stripes spot spots patch patches logo hole line lines mark dot print pattern design "
    "number letter star button zipper zip handle pocket pockets window windows door doors wheel "
    "wheels tattoo scar badge emblem label sticker flag light lights antenna horn mirror basket "
    "dent scratch hand arm leg foot paw ear eye tail wing parting bun ponytail bow knot face"
)
"""What a thing has a place on: "a shirt with a logo on the left"."""

APART = (
    r"behind|beside|besides|near|nearest|next\s+to|close(?:r|st)?\s+to|by|in\s+front\s+of|above|"
    r"under|underneath|below|beneath|over|between|among|around|against|across|opposite|from|"
    r"towards?|than|like|facing|watching|chasing|following|leading|throwing|kicking|hitting|"
    r"feeding|filming|(?:look|talk|point|wav|smil|star|bark|listen|speak|shout)ing\s+(?:at|to)|"
    r"(?:left|right|top|bottom|middle|cent(?:er|re)|front|back|side|edge|end)\s+of"
)
"""What relates a thing to another that may stand elsewhere; a place after it may be the other's."""

HAVING = r"with|has|having|have|(?:hold|carry|push|pull|dragg)ing"
"""What a thing has, or holds: a front after it may be the holder's own."""

MOVING = _words(
    "moving going heading coming travelling traveling running walking driving riding flying "
    "swimming jumping hopping rolling sliding drifting racing crossing passing skiing skating "
    "skateboarding surfing sailing cycling biking jogging sprinting galloping trotting marching "
    "crawling floating gliding speeding strolling"
)
"""What takes a thing from place to place."""
MOVES = _words(
    "moves goes heads comes travels runs walks drives rides flies swims jumps hops rolls slides "
    "drifts races crosses passes sails"
)
"""Likewise; only after "that", as some are nouns, too."""
BARE_VERBS = _words(
    "moving going heading coming travelling traveling entering approaching arriving moves goes "
    "heads comes travels enters"
)
"""Verbs that say nothing but the motion."""

TURNED = _words(
    "turn turns turned look looks looked face faces faced point points pointed lean leans leaned "
    "leant bend bends bent tilt tilts tilted steer steers swerve swerves veer veers shift shifts "
    "head heads nose eyes gaze body tail arrow sign way close closest next near nearest go goes "
    "move moves walk walks run runs drive drives ride rides fly flies back due"
)
"""Before "to the left" these say a direction, not a place."""
STAYING = _words("standing sitting lying seated kneeling waiting parked standing sleeping")
"""Before "to the left" these say a place."""

PLURALS = _words("people men women children geese mice police folks")
SINGULAR_S = _words(
    "bus lens glasses sunglasses goggles eyeglasses pants jeans trousers shorts tights leggings "
    "scissors binoculars headphones pliers tweezers pyjamas pajamas gas canvas christmas tennis "
    "iris oasis series species gymnastics swiss chess his its s"
)
"""Words that end like plurals, and name one thing."""
NUMBERS = _words(
    "two three four five six seven eight nine ten both several many some few all every each "
    "pair group couple crowd row line lots most no everyone everybody everything nobody nothing"
)
