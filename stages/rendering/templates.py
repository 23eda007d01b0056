"""Every word of a prompt, in one place. tests/golden/prompts.txt shows prompts made of them."""

PROMPT = """\
User: {profile}
Recently: {activity}
History, oldest first:
{history}
Candidates:
{pool}
The {length} best candidates for this user, best first, one per line:
"""
NO_PROFILE = "unknown"
NO_ACTIVITY = "nothing yet"
NO_HISTORY = "-"

PROFILE = "{name} {value}"
PROFILE_SEPARATOR = ", "

HISTORY_LINE = "{name}{feedback}"
HISTORY_FEEDBACK = " ({words})"

POOL_LINE = "{name}{tags}{statistics}"
POOL_TAGS = " | {categories}"
POOL_STATISTICS = " | {words}"

# behaviour counts per time window: "last 7 days: Comedy 2 (1 liked), Drama 1; before: Comedy 5"
WINDOW = "{when}: {topics}"
WINDOW_SEPARATOR = "; "
TOPIC = "{topic} {count}"
TOPIC_FEEDBACK = " ({words})"
TOPIC_SEPARATOR = ", "
FEEDBACK_COUNT = "{count} {word}"
WITHIN = "last {days} days"
EARLIER = "before"

# what an objective is called where an interaction carries it; `click` is every interaction, and goes without saying
FEEDBACK = {"like": "liked", "tail_click": "rare", "longview": "watched", "follow": "followed", "forward": "shared"}

DID = {**FEEDBACK, "not_interested": "dismissed"}  # in the lists by behaviour of RecIF's tasks

# RecIF's tasks: what is asked for, and what a user does with a video where a behaviour is
DOMAIN, DOMAINS = "video", {"ad": "advertisement", "product": "product"}
CONDITIONS = {
    "longview": "watches for long",
    "like": "likes",
    "follow": "likes so much that the author is followed",
    "forward": "shares",
    "not_interested": "dismisses",
    "": "watches",
}

# popularity, from the training part alone, by the share of items that are less frequent
POPULARITY = ((0.9, "very popular"), (0.6, "popular"), (0.2, ""), (0.0, "rarely chosen"))
