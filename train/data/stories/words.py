"""The words of the stories and the sentences that hold them: all data, no rules.

WORDS are lists of words that can stand for each other ("*3" makes one three times as likely, "_" is a space inside
a phrase, "-" says nothing at all); NAMES, PLACES and THINGS are who, where and what. FORMS is a table of the ways to
say each kind of event, one a line. In a form {word} is any word of that list, {a} and {b} are people, {x} and {y}
things, and what follows the dot is how they appear: {a} is a name or a pronoun, {a.his} always a pronoun, {x.was} "was"
or "were", {x.new} a thing not seen before. {an} is "a" or "an", {spot} is somewhere near ("behind the boat").
telling.py gives each its meaning.

Two rules keep the probability of a text exact: no two lines of one kind can make the same sentence, and nothing is
chosen that a reader could not see in the text.
"""

PRONOUNS = {"girl": "she her her", "boy": "he him his", "pet": "it it its", "one": "it it its",
            "many": "they them their"}

AGREEMENT = {"was": ("was", "were"), "is": ("is", "are")}  # after one thing, after many

DAMAGE = {"broke": ("broke", "tore"), "broken": ("broken", "torn")}  # hard things, and the soft ones of SOFT

# No two begin with the same letter, so that the first letter of a name tells who it is.
NAMES = {
    "girl": "Anna Cleo Eva Fay Ivy Kim Mia Sue Una Zoe", "boy": "Ben Dan Gus Hal Jim Leo Ned Otto Tom Will",
    "pet": "Pip Rex Vim Yap",
}

KIN = {"girl": "sister*2 aunt", "boy": "brother*2 uncle", "girl boy": "friend*4 cousin", "pet": "dog*2 cat*2 pony"}

PLACES = {
    "in the park": "tree bench swing slide pond gate", "on the beach": "rock boat pier hut dune cave",
    "in the wood": "log oak tree rock bush den", "in the garden": "shed wall rose pond gate bush",
    "on the farm": "barn fence hay cart well gate", "in the town": "shop clock wall well cart inn",
    "by the river": "bridge boat mill rock reeds oak", "at the lake": "boat jetty reeds hut rock log",
    "on the hill": "tower rock mill oak cave log", "at the fair": "tent stage cart swing slide stall",
    "at the castle": "gate tower well wall throne bridge", "at the zoo": "cage gate wall pond bench den",
}

THINGS = {
    "one": "ball*3 cup drum*2 flute globe hat*2 jar kite*3 lamp map*2 net pen ring*2 scarf top umbrella vase wand",
    "many": "boots cards gloves mittens paints shoes",
}

SOFT = "hat map scarf net umbrella cards gloves mittens boots shoes"

WORDS = {
    "trait": "kind brave shy funny lazy loud calm bold wise quick silly neat wild proud busy tiny tall gentle honest "
             "clever strong quiet merry small",
    "hobby": "art maths books maps bugs boats trains songs games stars birds horses dogs trees snow chess jokes ships "
             "plants stones ducks flowers rain cats trucks bees drums planes kings caves ghosts bikes",
    "house": "house*2 hut cabin tower castle mill inn camp", "near": "near by beside",
    "land": "sea river lake hills woods farm mill road bay",
    "old": "old tiny big white red blue stone brick wooden tall round green",
    "sky": "sunny warm cold windy wet dry grey hot icy dull fine foggy clear mild",
    "day": "day*3 morning*3 evening Monday Tuesday Friday Sunday",
    "size": "-*3 big small old new tiny long fine odd huge", "colour": "red blue green yellow black white pink grey",
    "carry": "bag box sack basket pocket hat", "love": "loved liked adored kept_safe used_a_lot",
    "look": "big small fat thin tiny old young wet sad shy wild loud calm sleepy angry hungry funny lazy busy muddy "
            "clever odd brown white black grey red pale dark spotted proud quick",
    "tired": "tired*3 sleepy full wet cold warm muddy dusty sore hungry",
    "animal": "frog fox owl mouse snail crow swan deer mole bee worm goose crab hare bat rat ant wolf bear pig calf "
              "toad moth newt hen dove lamb mule seal wasp cow ram",
    "sat": "sat slept sang ate dug hid drank played hopped yawned jumped danced waited",
    "food": "soup nuts peas rice eggs corn toast bread pasta beans ham fish salad cheese pizza chips beets leeks kale "
            "ribs yams",
    "treat": "cake jam pie plums buns figs pears milk tea cocoa honey grapes dates apples lemons melon toffee berries "
             "limes juice mints tarts",
    "game": "tag catch chess cards ball bingo pirates knights school shops golf darts dice chase horses kings trains "
            "doctors",
    "long": "all_day till_dark till_noon for_hours for_a_while till_lunch",
    "went": "went*3 walked*2 ran rode drove raced hurried skipped",
    "moved": "ran flew crept hopped jumped came walked slid dashed raced",
    "adverb": "slowly gently quickly happily softly kindly gladly boldly quietly neatly proudly calmly",
    "softly": "-*4 softly gently kindly slowly quickly again at_once at_last loudly proudly",
    "said": "said*5 called cried replied", "asked": "asked*4 called cried", "under": "behind under near by beside",
    "big": "-*3 big old tall low wet red green white stone broken small long dark",
    "then": "-*7 Then*2 Soon*2 Next Later Now Suddenly After_that", "oh": "Oh_no! Oh_dear! Help! Wait! Hey!",
    "wow": "Look! Wow! Hooray! See! Ha!", "very": "-*4 very so quite rather",
    "sad": "sad*2 upset unhappy gloomy tearful", "cross": "cross angry mad furious",
    "scared": "scared afraid nervous worried", "happy": "happy*2 glad pleased proud merry cheerful joyful thankful",
    "cried": "cried sighed sobbed wept sat_down hid looked_down said_nothing",
    "part": "knee toe foot hand arm leg nose ear chin finger elbow",
    "noise": "bang crash roar howl splash thump hiss scream buzz growl creak snap",
    "loud": "loud odd sudden deep awful low sharp strange",
    "mender": "glue tape string paint wire nails thread wax wool pins", "wind": "wind sun rain air sky grass sea",
    "felt": "warm cold soft bright fresh dark calm cool mild sweet wet",
    "leaves": "leaves flowers branches clouds birds flags bells bees boats",
    "swayed": "danced shook moved sang rested shone waited",
    "hug": "hugged held patted ran_to sat_by smiled_at waved_to", "nice": "fun nice lovely great grand fine",
    "lesson": "to_share to_be_kind to_wait to_listen to_say_sorry to_ask_first to_help to_be_brave to_try_again "
              "to_tell_the_truth",
    "night": "That_night At_night At_dusk In_the_evening At_bedtime At_the_end When_it_got_dark",
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

NEW_LINE = {"outing", "go", "suggest", "night", "kept"}  # these start a new paragraph

FORMS = """
# The beginning.
open         Once upon a time there was {an} {trait}, {trait} {a.kind} named {a.first}.
             Once there was {an} {trait} {a.kind} called {a.first} who loved {hobby}, {hobby} and {treat}.
             {a.first} was {an} {trait}, {trait} {a.kind} who lived in {an} {old} {house} {near} {an} {big} {land}.
             In {an} {old} {house} {near} the {land} lived {an} {trait} {a.kind} named {a.first}.
             There once was {an} {trait} {a.kind} who drew {hobby}, {hobby} and {hobby}. {a.his} name was {a.first}.
own          {a} had {x.new} that {a.he} {love}.
             {a.his} favourite toy was {x.new}.
             {a} kept {x.new} in {a.his} {carry} with {treat} and {food}.
             {a} had made {x.new} with {mender} and {mender}.
             For {a.his} birthday {a} got {x.new}, {food} and {treat}.
outing       One {sky}, {sky} {day} {a} {went} {to} with {a.his} {trait} {b.kin} {b.first}.
             On {an} {sky} {day} {a} and {a.his} {trait} {b.kin} {b.first} {went} {to}.
             It was {an} {sky}, {sky} {day}, and {a} {went} {to} to meet {a.his} {b.kin} {b.first}.
meet         {then} {a} met {a.his} {trait}, {trait} {b.kin} {b.first} {spot}.
             {then} {a.his} {trait} {b.kin} {b.first} came with {treat} and {food}.
             {then} {a} saw {a.his} {trait} {b.kin} {b.first}, who {sat} {spot}.
bring        {a} had brought {x.new}, {food} and {treat}.
             {a} was carrying {x.new}.
             {a} came with {x.new} in {a.his} {carry}.
# Quiet things to do.
weather      The {wind} was {felt} and {felt}, and the {leaves} {swayed}.
             The {felt}, {felt} {wind} {swayed}.
             {an} {look} {animal} {moved} past {an} {look} {animal}.
             {spot} {an} {look} {animal} and {an} {look} {animal} {sat}.
             {an} {look} {animal}, {an} {look} {animal} and {an} {look} {animal} {moved} past.
see          {then} {a} saw {an} {look} {animal} and {an} {look} {animal} {spot}.
             {then} {a} saw {an} {look}, {look} {animal}.
             "{wow} I see {an} {look} {animal} and {an} {look}, {look} {animal}!" {said} {a.name}.
             {then} {a} fed {food} to {an} {look} {animal} and {treat} to {an} {look} {animal}.
eat          {then} {a} ate {food}, {food}, {treat} and {treat}.
             {then} {a} had {food} and {treat} {spot}.
             {then} {a} shared {food}, {food} and {treat} with {an} {look} {animal}.
             {then} {a} ate some {food} with {treat} and {treat}.
play         {then} {a} played {game}, {game} and {game}.
             {then} {a} {adverb} played {game} and {game} {long}.
             {then} {a} played {game} {spot} with {an} {look} {animal}.
             {then} {a} talked about {hobby}, {hobby} and {hobby}.
say          "I love {hobby}, {hobby} and {hobby}," {said} {a.name} {softly}.
             "I want some {treat}, {treat} and {food}," {said} {a.name} {softly}.
             "The {wind} is {felt} and {felt}," {said} {a.name} {softly}.
             "Let us draw {an} {look} {animal} and {an} {look} {animal}," {said} {a.name}.
use          {then} {a} played with {x} {spot}.
             {then} {a} {adverb} showed {x} to {an} {look} {animal} and {an} {look} {animal}.
             {then} {a} put {x} in {a.his} {carry} with {food}, {food} and {treat}.
find         {then} {a} found {x.new} {spot}.
             {then} {a} found {x.new}, some {food} and some {treat} {spot}.
             "{wow} I found {x.new} {spot}!" {said} {a.name}.
go           {then} {a} {went} {to}.
             {then} {a} {went} {to} to play {game}.
             {then} {a} got tired and {went} {to}.
suggest      "Let us go {to}!" {said} {a.name}, and off they {went}.
             "Who will come {to}?" {asked} {a.name}. They all {went} there.
# Who has what.
give         {then} {a} gave {b.obj} {x.noun}.
             {then} {a} {adverb} gave {x} to {b.obj}.
             "You can keep {x.my}, {b.name}," {said} {a.name} {softly}.
lend         {then} {a} lent {b.obj} {x.noun}.
             {then} {a} let {b.obj} hold {x}.
             "You can use {x.my}, {b.name}," {said} {a.name} {softly}.
swap         {then} {a} swapped {x} for {y}.
             "Let us swap {x.my} for {y.your}, {b.name}," {said} {a.name}, and so they did.
put          {then} {a} put {x} {spot}.
             {then} {a} {adverb} left {x} {spot}.
pick         {then} {a} picked up {x}.
             {then} {a} went to get {x}, which {x.was} still {x.spot}.
# Something goes wrong.
lose         {then} {a} looked in {a.his} {carry}, but {x} {x.was} gone.
             {then} {a} could not find {x}.
             "{oh} Where {x.is} {x.my}?" {said} {a.name}. {x.he} {x.was} gone!
break        {then} {a} fell {spot}, and {x} {x.broke}.
             {then} {a} sat on {x}, and {x.he} {x.broke}.
             {then} {a} pulled too hard, and {x} {x.broke}.
take         {then} {a} took {x} away from {b.obj}.
             {then} {a} grabbed {x} and {moved} away.
             {a} wanted {x}, so {a.he} took {x.him} from {b.obj}.
hide         {then} {a} {adverb} hid {x} {spot}.
             While {b.name} looked away, {a.name} hid {x} {spot}.
want         "May I have {x.your}, {b.name}?" {asked} {a.name} {softly}.
             {a} wanted to play with {x} too.
             "Please share {x.your} with me, {b.name}," {said} {a.name} {softly}.
refuse       "No, {x.he} {x.is} mine," {said} {a.name} {softly}.
             But {a} would not share {x}.
             {a} shook {a.his} head and held {x} tight.
noise        {then} {a} heard {an} {sound} {spot}.
             {then} there was {an} {sound} {spot}, and {a} jumped.
hurt         {then} {a} fell and hurt {a.his} {limb}.
             {then} {a} slipped {spot} and hurt {a.his} {limb}.
# How it feels, and talking about it.
feel         {a} was {very} {feeling} because {cause}.
             {a} felt {very} {feeling}.
             {a} was {feeling} and {cried}.
             {a} {cried} because {cause}.
ask          "What is it, {b.name}?" {asked} {a.name} {softly}.
             "What is wrong?" {asked} {a.name} {softly}.
             "Why are you so {b.feeling}, {b.name}?" {asked} {a.name}.
tell         "{claim}," {said} {a.name} {softly}.
             {a} told {b.obj} that {cause}.
comfort      {then} {a} {adverb} {hug} {b.obj} and gave {b.him} {treat}, {food} and {treat}.
             "Do not be {b.feeling}, {b.name}," {said} {a.name} {softly}.
             {then} {a} {hug} {b.obj} and sang about {an} {look}, {look} {animal}.
thank        "Thank you for {claim}, {b.name}!" {said} {a.name}.
             "Thank you, {b.name}, you are {very} kind," {said} {a.name}.
             {a} thanked {b.obj} {softly}.
glad         {a} was {very} {feeling} because {cause}.
             Now {a} was {very} {feeling}.
             {a} smiled because {cause}.
# Making it right.
search       {then} {a} looked {spot}, but {x} {x.was} not there.
             {then} {a} asked {an} {look} {animal} and {an} {look} {animal}, but no one had seen {x}.
find again   {then} {a} found {x} {spot} and gave {x.him} to {b.obj}.
             "{wow} Here {x.is} {x.your}, {b.name}!" {said} {a.name}. {x.he} {x.was} {spot}.
mend         {then} {a} {adverb} mended {x} with {mender}, {mender} and {mender}.
             "I can mend {x.your}, {b.name}," {said} {a.name}, and {a.he} did so with {mender} and {mender}.
return       {then} {a} {adverb} gave {x} back to {b.obj}.
             "I am sorry, {b.name}," {said} {a.name} {softly} and gave {x} back.
drop         {then} {a} got tired of {x} and gave {x.him} back.
             {then} {a} dropped {x}, and {b.name} picked {x.him} up.
confess      "{x} {x.is} {x.spot}," {said} {a.name} {softly}.
             "Look {x.spot}, {b.name}," {said} {a.name} {softly}.
fetch        {then} {a} looked {x.spot}, and there {x.he} {x.was}!
             {then} {a} found {x} {x.spot}.
explain      "It was only {an} {look}, {look} {animal}, {b.name}," {said} {a.name} {softly}.
             {then} {a} went to look, but it was only {an} {look}, {look} {animal}.
nurse        {then} {a} washed {b.name}'s {b.detail} and gave {b.him} {treat} and {treat}.
             {then} {a} put {mender} and {mender} on the sore {b.detail}.
# Questions about the world.
ask who      "Who has {x.my}, {b.name}?" {asked} {a.name} {softly}.
             "Where {x.is} {x.my}, {b.name}?" {asked} {a.name}.
answer me    "I have {x.him}," {said} {a.name} {softly}.
answer other "{b.name} has {x.him}," {said} {a.name} {softly}.
# The end.
night        {night} {a} had {food}, {food} and {treat}.
             {night} {a} went home, {tired}, {tired} and {happy}.
kept         {night} {a} still had {x}.
             {night} {a} took {x} home.
             {night} {a} fell asleep with {x} in {a.his} arms.
end          It had been {an} {nice} day.
moral        From then on {a} tried {lesson}.
             And {a} dreamed of {hobby}, {hobby} and {an} {look} {animal}.
             And {a} dreamed of {an} {look}, {look} {animal}.
"""
