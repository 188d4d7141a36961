"""Texts that tokenizers get wrong, and a small corpus to train on: shared by the tests and by record.py."""

AWKWARD = [
    "", " ", "  \t\n ", "Hello world", "Hello, world! It's 10:45 -- don't be late...", " leading and trailing  ",
    "I'M WE'LL he'd 'twas '' 's", "line one\n\n\nline two\r\n\tindented   x",
    "a\u00a0b\u2003c\u3000d\u2028e\u0085f\x0bg\x1ch",
    "1234567 3.14159 ½ ² ٣٤ Ⅷ", "naïve café Ångström İstanbul ΌΣΟΣ ẞtraße", "e\u0301 a\u0327\u0302 n\u0303o",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️", "中文字符 日本語テスト 한국어 ｶﾞ豈",
    "שלום עולם مرحبا ‏RTL‎", "हिन्दी ไทย ខ្មែរ",
    "\x00NUL \x07bell \ufffdrep \ufeffbom \u200bzw \u00adshy \u200djoin", "\ue000private \U0001f9ffnazar \U000e0041tag",
    "$5 €5 a+b=c x^2 <tag> `code` ~tilde | pipe", "a" * 101 + " " + "b" * 100, "http://example.com/a_b-c?d=e&f=g#h",
    "<|endoftext|> [CLS] </s> <unk> <extra_id_0>",
    "ﬁ ﬃ ① ㍿ ﷺ ～ ¨", "▁mark ##hash </w>", "\u1100\u1161\u11a8 \u30ab\u3099",
]

CORPUS = """
When the sun rose over the harbour, the old fisherman was already mending his nets. He had mended them every morning
for forty years, and every morning the gulls came to watch. "They think I'm hiding fish," he said; they weren't wrong.
The harbour's children counted 12 gulls, then 13, then 120 -- counting was never their strength -- and ran home when
the bell rang. Running, they sang the counting song: one for the anchor, two for the sail, three for the fisherman's
tale. Nobody remembered who had written it. Café owners hummed it; naïve tourists recorded it; the mayor, who couldn't
sing, whistled. In winter, when the harbour froze, the song froze too, or so the grandmothers said: it hung in the air
until the thaw of 1987, and then everyone heard forty songs at once! The fisherman laughed. He'd heard them all before.
中文 日本 中文 日本 한국 한국 привет, привет! Привет? €10, €10 or $10. 👍🏽👍🏽 e\u0301e\u0301 mañana mañana.
""".strip()
