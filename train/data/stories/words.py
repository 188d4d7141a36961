"""The words of the stories and the sentences that hold them: all data, no rules.

WORDS are lists of words that can stand for each other ("*3" makes one three times as likely, "_" is a space inside
a phrase, "-" says nothing at all); NAMES, PLACES and THINGS are who, where and what. FORMS are the ways to say each
kind of event, one a line. In a form {word} is any word of that list, {a} and {b} are people, {x} and {y} things, and
what follows the dot is how they appear: {a} is a name or a pronoun, {a.his} always a pronoun, {x.was} "was" or "were",
{x.new} a thing not seen before. {an} is "a" or "an", {spot} is somewhere near ("behind the boat"). telling.py gives
each its meaning.

Two rules keep the probability of a text exact: no two lines of one kind can make the same sentence, and nothing is
chosen that a reader could not see in the text.
"""

PRONOUNS = {"girl": "she her her", "boy": "he him his", "pet": "it it its", "one": "it it its",
            "many": "they them their"}

AGREEMENT = {"was": ("was", "were"), "is": ("is", "are")}

NAMES = {
    "girl": "Anna Mia Lucy Emma Rosa Zoe Nina Clara Ella Ivy Ruby Molly Lily Sara Kate Dora Alma Vera June Greta "
            "Hanna Iris Lena Nora Paula Tina Ada Bella Daisy Eva Flora Jane",
    "boy": "Ben Tom Max Leo Sam Jack Finn Noah Oscar Hugo Peter Paul Adam Luke Otto Fred Carl Emil Felix Henry "
           "Ivan Karl Mark Nick Ralph Simon Theo Victor Walter Rudi Ned Bruno",
    "pet": "Rex Biscuit Pip Patch Ginger Button Coco Muffin Pepper Bobo Nugget Waffle",
}

KIN = {"girl": "sister*2 aunt", "boy": "brother*2 uncle", "girl boy": "friend*4 cousin*2 best_friend*2 neighbour",
       "pet": "dog*2 cat*2 rabbit pony parrot puppy"}

PLACES = {
    "in the park": "bench fountain swing slide oak hedge kiosk",
    "on the beach": "rock boat pier dune sandcastle lighthouse",
    "in the forest": "log oak mushroom stream bush fern",
    "in the garden": "shed wall rosebush pond gate wheelbarrow",
    "on the farm": "barn fence haystack tractor trough well",
    "at the market": "stall cart fountain barrel tent clock",
    "by the river": "bridge willow boat mill rock reeds",
    "at the lake": "island jetty reeds willow hut canoe",
    "on the hill": "tower rock windmill pine cave signpost",
    "at the fair": "tent carousel stage wagon ticket_booth",
    "at the castle": "throne gate tower well cannon drawbridge",
    "at the station": "platform train bench clock counter kiosk",
}

THINGS = {
    "one": "ball*3 kite*3 drum*2 doll*2 boat train robot*2 puzzle book*3 lamp hat*2 scarf bell whistle flute "
           "umbrella basket bucket ring map*2 box cup blanket pillow clock camera wagon spoon crown mask puppet "
           "trumpet lantern teapot apron easel violin telescope compass guitar diary mirror vase mug jug "
           "paintbrush rope shovel sledge necklace candle tractor globe fan top spade ladder chair hammer kettle",
    "many": "boots gloves*2 crayons*2 beads mittens skates blocks*2 paints cards slippers goggles marbles glasses "
            "pencils seeds sandals ribbons stickers",
}

# These tear, the others break.
SOFT = "book hat scarf map blanket diary pillow mask apron boots gloves mittens cards slippers sandals ribbons"

WORDS = {
    "trait": "kind brave shy clever funny cheerful gentle curious careful lively polite honest friendly clumsy "
             "playful patient lazy noisy thoughtful impatient adventurous stubborn",
    "hobby": "singing painting climbing dancing baking reading swimming drawing fishing running sewing gardening "
             "cooking skating acting collecting_stamps telling_jokes riding_horses building_towers making_masks "
             "knitting rowing camping juggling whistling hiking sledging writing_letters feeding_ducks "
             "counting_stars flying_kites playing_chess",
    "house": "house cottage cabin tower farmhouse hut castle mill village town",
    "near": "near by beside not_far_from",
    "land": "sea river forest lake mountains hills woods desert harbour railway canal",
    "old": "old little tiny big white red quiet pretty crooked stone wooden yellow round",
    "sky": "sunny warm cold windy rainy cloudy bright foggy lovely quiet hot grey icy",
    "day": "morning*4 afternoon*3 evening day*2 Monday Tuesday Friday Saturday Sunday",
    "size": "-*9 big small*2 little*2 tiny old*2 new*2 shiny pretty heavy funny ugly empty",
    "colour": "red*3 blue*3 green*2 yellow*2 white black brown pink purple orange golden silver grey wooden "
              "striped",
    "carry": "pocket bag basket backpack hat sack",
    "love": "loved liked_very_much was_proud_of took_everywhere kept_in_a_box showed_to_everyone",
    "look": "small*2 big*2 fat thin sleepy hungry noisy funny shy brown white black grey spotted young old strange "
            "clever busy angry wet muddy tired",
    "animal": "frog fox owl squirrel hedgehog butterfly beetle mouse snail sparrow crow swan lizard spider deer "
              "mole badger bee worm turtle goose crab hare otter bat rat pigeon ant robin wolf bear pig calf "
              "donkey toad seagull swallow moth dragonfly newt heron magpie weasel stork",
    "doing": "sleeping hiding singing eating digging jumping waiting resting hopping playing dancing snoring "
             "standing sitting drinking shivering yawning looking_around",
    "food": "apples*2 bread*2 cheese*2 soup nuts pears carrots sandwiches noodles peas porridge eggs potatoes rice "
            "beans corn toast tomatoes mushrooms pasta salad omelettes pumpkin cabbage",
    "treat": "cake*3 honey jam grapes pancakes cookies*2 berries plums pie biscuits cherries chocolate milk "
             "lemonade peaches raisins popcorn waffles custard pudding tea cocoa apple_juice buns muffins",
    "game": "tag*2 catch*2 pirates cards school doctors knights football music dominoes hide_and_seek*3 a_new_game",
    "long": "all_day until_dark for_an_hour for_a_long_time until_lunch before_supper",
    "went": "went*3 walked*3 ran*2 hurried skipped raced strolled marched wandered cycled",
    "moved": "ran flew walked crept jumped hurried wandered raced came",
    "adverb": "quickly slowly happily quietly carefully gently proudly kindly politely at_once with_a_smile",
    "softly": "-*6 quietly kindly politely gently slowly at_once at_last with_a_smile in_a_low_voice "
              "after_a_moment",
    "said": "said*5 called answered replied added",
    "asked": "asked*5 wondered called said",
    "under": "behind under near next_to beside",
    "big": "-*4 big*2 old*2 tall little broken wooden crooked green dusty red empty stone white mossy",
    "then": "-*14 Then*3 Soon*2 Next Later Suddenly After_a_while After_that Just_then Before_long A_moment_later",
    "oh": "Oh_no! Oh_dear! Help! Wait! Hey! Listen! Goodness!",
    "wow": "Look! Wow! Hooray! Hurrah! See! Come_here! How_nice!",
    "very": "-*6 very*3 so quite rather a_little really terribly",
    "sad": "sad*4 unhappy upset gloomy miserable heartbroken",
    "cross": "cross*2 angry*4 annoyed furious grumpy",
    "scared": "scared*3 afraid frightened*2 nervous worried",
    "happy": "happy*5 glad*2 pleased cheerful delighted proud grateful excited",
    "cried": "cried sighed sobbed sat_down began_to_cry said_nothing looked_at_the_ground wiped_away_a_tear",
    "part": "knee*2 elbow finger foot hand toe head arm ankle nose",
    "noise": "bang crash roar howl splash rumble thump hiss scream buzz growl",
    "loud": "loud strange terrible sudden deep horrible low sharp",
    "mender": "glue*2 tape*2 string*2 paint wire nails thread a_hammer a_needle a_stick some_wool",
    "wind": "wind sun rain air sky grass water",
    "felt": "warm cold soft bright lovely fresh dark strange sweet calm",
    "leaves": "leaves flowers branches clouds shadows birds children flags bells bees",
    "swayed": "danced shook whispered trembled moved rested sang laughed",
    "hug": "hugged sat_down_beside smiled_at put_an_arm_around waved_at ran_to",
    "nice": "fun lovely wonderful amazing great perfect exciting beautiful",
    "lesson": "to_share to_be_kind to_be_careful to_tell_the_truth to_say_sorry to_help_a_friend to_be_patient "
              "to_be_brave to_ask_first to_be_a_good_friend to_try_again",
    "night": "At_the_end_of_the_day When_the_sun_went_down That_night When_it_grew_dark When_the_stars_came_out "
             "In_the_evening Before_supper",
}


# Why someone feels as they do: told about them, told by them, and what they say thank you for.
CAUSES = {
    "lost": ("{a.he} had lost {x}", "I lost {x.my}"),
    "hidden": ("{a.he} could not find {x}", "I cannot find {x.my}"),
    "broken": ("{x} {x.was} {x.broken}", "{x.my} {x.is} {x.broken}"),
    "taken": ("{b.name} had taken {x}", "{b.name} took {x.my}"),
    "refused": ("{b.name} would not share {x}", "{b.name} will not share {x.my}"),
    "noise": ("{a.he} had heard {an} {detail}", "I heard {an} {detail}"),
    "hurt": ("{a.his} {detail} hurt", "my {detail} hurts"),
    "given": ("{b.name} had given {a.him} {x}", "{x.my}"),
    "lent": ("{b.name} had lent {a.him} {x}", "{x.my}"),
    "found": ("{b.name} had found {x}", "finding {x.my}"),
    "there": ("{a.he} had found {x}", ""),
    "mended": ("{b.name} had mended {x}", "mending {x.my}"),
    "returned": ("{b.name} had given {x} back", "giving {x.my} back"),
    "helped": ("{b.name} was so kind", "being so kind"),
}

FORMS = {
    # The beginning.
    "open": """
        Once upon a time there was {an} {trait} {a.kind} named {a.first}.
        Once there was {an} {trait} {a.kind} called {a.first} who loved {hobby}.
        {a.first} was {an} {trait} {a.kind} who lived in {an} {old} {house} {near} the {land}.
        Long ago, in {an} {old} {house} {near} the {land}, lived {an} {trait} {a.kind} named {a.first}.
        There once lived {an} {trait} {a.kind} who was good at {hobby}. {a.his} name was {a.first}.""",
    "own": """
        {a} had {x.new} that {a.he} {love}.
        {a.his} favourite toy was {x.new}.
        {a} always carried {x.new} in {a.his} {carry}.
        For {a.his} birthday {a} got {x.new}.
        {a} had {x.new}, and {a.he} {adverb} showed {x.him} to everyone.""",
    "outing": """
        One {sky} {day} {a} {went} {to} with {a.his} {b.kin} {b.first}.
        On {an} {sky} {day} {a} and {a.his} {b.kin} {b.first} {went} {to}.
        It was {an} {sky} {day}, and {a} {went} {to} to meet {a.his} {b.kin} {b.first}.""",
    "meet": """
        {then} {a} met {a.his} {b.kin} {b.first} {spot}.
        {then} {a.his} {b.kin} {b.first} came along.
        {then} {a} saw {a.his} {b.kin} {b.first}, who was {doing} {spot}.""",
    "bring": """
        {a} had brought {x.new}.
        {a} was carrying {x.new}.
        {a} came with {x.new} in {a.his} {carry}.""",
    # Quiet things to do.
    "weather": """
        The {wind} was {felt} and the {leaves} {swayed}.
        The {leaves} {swayed} in the {felt} {wind}.
        {an} {look} {animal} {moved} past.
        {spot} {an} {look} {animal} was {doing}.""",
    "see": """
        {then} {a} saw {an} {look} {animal} {spot}.
        {then} {an} {look} {animal} {moved} past {a}.
        "{wow} There is {an} {look} {animal} {spot}!" {said} {a.name}.
        {then} {a} watched {an} {look} {animal} that was {doing} {spot}.""",
    "eat": """
        {then} {a} ate {food} and {treat}.
        {then} {a} had some {food} {spot}.
        {then} {a} shared some {food} and {treat}.""",
    "play": """
        {then} {a} played {game} {long}.
        {then} {a} played {game} {spot}.
        {then} {a} talked about {hobby} and {game}.""",
    "say": """
        "This is {nice}!" {said} {a.name}.
        "I love {hobby}," {said} {a.name} {softly}.
        "I would like some {treat}," {said} {a.name} {softly}.
        "Look at the {felt} {wind}!" {said} {a.name}.""",
    "use": """
        {then} {a} played with {x} {spot}.
        {then} {a} {adverb} put {x} in {a.his} {carry}.
        {then} {a} looked at {x} {softly}.""",
    "find": """
        {then} {a} found {x.new} {spot}.
        {then} {a} looked {spot} and saw {x.new}.
        "{wow} I found {x.new} {spot}!" {said} {a.name}.""",
    "go": """
        {then} {a} {went} {to}.
        {then} {a} {went} {to} to play {game}.
        {then} {a} got tired and {went} {to}.""",
    "suggest": """
        "Let us go {to}!" {said} {a.name}, and off they {went}.
        "Who wants to come {to}?" {asked} {a.name}. So everyone {went} there.""",
    # Who has what.
    "give": """
        {then} {a} gave {b.obj} {x}.
        {then} {a} {adverb} gave {x} to {b.obj}.
        "You can keep {x.my}, {b.name}," {said} {a.name} {softly}.""",
    "lend": """
        {then} {a} lent {b.obj} {x}.
        {then} {a} {adverb} let {b.obj} hold {x}.
        "You can use {x.my} for a while, {b.name}," {said} {a.name} {softly}.""",
    "swap": """
        {then} {a} swapped {x} for {y}.
        "Let us swap {x.my} for {y.your}, {b.name}," {said} {a.name}, and so they did.""",
    "put": """
        {then} {a} put {x} {spot}.
        {then} {a} {adverb} left {x} {spot}.""",
    "pick": """
        {then} {a} picked up {x}.
        {then} {a} went to get {x}, which {x.was} still {x.spot}.""",
    # Something goes wrong.
    "lose": """
        {then} {a} looked in {a.his} {carry}, but {x} {x.was} gone.
        {then} {a} dropped {x} and could not find {x.him}.
        "{oh} Where {x.is} {x.my}?" {said} {a.name}. {x.he} {x.was} gone!""",
    "break": """
        {then} {a} fell {spot}, and {x} {x.broke}.
        {then} {a} sat on {x} by mistake, and {x.he} {x.broke}.
        {then} {a} pulled too hard, and {x} {x.broke}.""",
    "take": """
        {then} {a} took {x} away from {b.obj}.
        {then} {a} grabbed {x} and {moved} away.
        {a} wanted {x}, so {a.he} took {x.him} from {b.obj}.""",
    "hide": """
        {then} {a} hid {x} {spot}, just for fun.
        While {b.name} looked away, {a.name} hid {x} {spot}.""",
    "want": """
        "May I have {x.your}, {b.name}?" {asked} {a.name} {softly}.
        {a} wanted to play with {x} too.
        "Please share {x.your} with me, {b.name}," {said} {a.name} {softly}.""",
    "refuse": """
        "No, {x.he} {x.is} mine," {said} {a.name} {softly}.
        But {a} would not share {x}.
        {a} shook {a.his} head and held {x} tight.""",
    "noise": """
        {then} {a} heard {an} {sound} {spot}.
        {then} there was {an} {sound} {spot}, and {a} jumped.""",
    "hurt": """
        {then} {a} fell and hurt {a.his} {limb}.
        {then} {a} slipped {spot} and hurt {a.his} {limb}.""",
    # How it feels, and talking about it.
    "feel": """
        {a} was {very} {feeling} because {cause}.
        {a} felt {very} {feeling}.
        {a} was {feeling} and {cried}.
        {a} {cried} because {cause}.""",
    "ask": """
        "What is the matter, {b.name}?" {asked} {a.name} {softly}.
        "{b.name}, are you all right?" {asked} {a.name} {softly}.
        "Why are you so {b.feeling}, {b.name}?" {asked} {a.name}.""",
    "tell": """
        "{claim}," {said} {a.name} {softly}.
        {a} told {b.obj} that {cause}.""",
    "comfort": """
        {then} {a} {hug} {b.obj}.
        "Do not be {b.feeling}, {b.name}," {said} {a.name} {softly}.
        "It will be all right, {b.name}," {said} {a.name} {softly}.""",
    "thank": """
        "Thank you for {claim}, {b.name}!" {said} {a.name}.
        "Thank you, {b.name}, you are {very} kind," {said} {a.name}.
        {a} thanked {b.obj} {softly}.""",
    "glad": """
        {a} was {very} {feeling} because {cause}.
        Now {a} was {very} {feeling}.
        {a} smiled because {cause}.""",
    # Making it right.
    "search": """
        {then} {a} looked {spot}, but {x} {x.was} not there.
        {then} {a} asked {an} {look} {animal}, but nobody had seen {x}.""",
    "find again": """
        {then} {a} found {x} {spot} and gave {x.him} to {b.obj}.
        "{wow} Here {x.is} {x.your}, {b.name}!" {said} {a.name}. {x.he} {x.was} {spot}.""",
    "mend": """
        {then} {a} mended {x} with {mender}.
        "I can mend {x.your}, {b.name}," {said} {a.name}, and {a.he} did so with {mender}.""",
    "return": """
        {then} {a} gave {x} back to {b.obj}.
        "I am sorry, {b.name}," {said} {a.name} {softly} and gave {x} back.""",
    "drop": """
        {then} {a} got tired of {x} and gave {x.him} back.
        {then} {a} dropped {x}, and {b.name} picked {x.him} up.""",
    "confess": """
        "{x} {x.is} {x.spot}," {said} {a.name} {softly}.
        "Look {x.spot}, {b.name}," {said} {a.name} {softly}.""",
    "fetch": """
        {then} {a} looked {x.spot}, and there {x.he} {x.was}!
        {then} {a} found {x} {x.spot}.""",
    "explain": """
        "It was only {an} {look} {animal}, {b.name}," {said} {a.name} {softly}.
        {then} {a} went to look, but it was only {an} {look} {animal}.""",
    "nurse": """
        {then} {a} washed {b.name}'s {b.detail} and put a bandage on it.
        {then} {a} blew on the sore {b.detail} {softly}.""",
    # Questions about the world.
    "ask who": """
        "Who has {x.my}, {b.name}?" {asked} {a.name} {softly}.
        "Where {x.is} {x.my}, {b.name}?" {asked} {a.name}.""",
    "answer me": """
        "I have {x.him}," {said} {a.name} {softly}.""",
    "answer you": """
        "You have {x.him}, {b.name}," {said} {a.name}.""",
    "answer other": """
        "{b.name} has {x.him}," {said} {a.name} {softly}.""",
    # The end.
    "night": """
        {night} {a} went home, {happy} and tired.
        {night} {a} had {food} and {treat} for supper.""",
    "kept": """
        {night} {a} still had {x}.
        {night} {a} took {x} home.
        {night} {a} fell asleep with {x} in {a.his} arms.""",
    "end": """
        It had been {an} {nice} day.""",
    "moral": """
        From that day on {a} always tried {lesson}.
        {a} had learned {lesson}.
        And {a} dreamed of {an} {look} {animal}.""",
}
