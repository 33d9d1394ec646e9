//! The words of the little language, and what belongs together in it: a dog barks, a baker bakes.
//! Whatever belongs together can be guessed from the other part once it was read often enough.

/// Somebody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) is_female: bool,
}

/// A kind of animal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Animal {
    pub(super) noun: &'static str,
    /// What it did with its voice.
    pub(super) cried: &'static str,
    /// How it moved.
    pub(super) moved: &'static str,
    pub(super) food: &'static str,
    pub(super) home: &'static str,
}

/// What can be had, and given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thing {
    pub(super) noun: &'static str,
    /// What its owner did with it: verb and preposition.
    pub(super) used: &'static str,
}

/// Where stories go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) noun: &'static str,
    /// What there is to see.
    pub(super) sight: &'static str,
}

/// What is eaten or drunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Food {
    pub(super) noun: &'static str,
    pub(super) made: &'static str,
    pub(super) ate: &'static str,
    /// What it comes in.
    pub(super) dish: &'static str,
    pub(super) taste: &'static str,
}

/// A trade.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) noun: &'static str,
    pub(super) place: &'static str,
    pub(super) tool: &'static str,
    pub(super) made: &'static str,
    pub(super) product: &'static str,
}

/// What the sky does, and what comes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Weather {
    pub(super) begins: &'static str,
    pub(super) effect: &'static str,
    /// What one takes along.
    pub(super) gear: &'static str,
    pub(super) ends: &'static str,
}

const fn she(name: &'static str) -> Person {
    Person { name, is_female: true }
}

const fn he(name: &'static str) -> Person {
    Person { name, is_female: false }
}

pub(super) const PEOPLE: [Person; 16] = [
    she("Mira"),
    he("Tom"),
    she("Anna"),
    he("Ben"),
    she("Lena"),
    he("Paul"),
    she("Clara"),
    he("Max"),
    she("Ruth"),
    he("Karl"),
    she("Nora"),
    he("Otto"),
    she("Ida"),
    he("Leo"),
    she("Emma"),
    he("Felix"),
];

pub(super) const PETS: [&str; 8] =
    ["Pepper", "Biscuit", "Smoky", "Domino", "Pickle", "Ginger", "Bramble", "Whiskers"];

const fn animal(words: [&'static str; 5]) -> Animal {
    let [noun, cried, moved, food, home] = words;
    Animal { noun, cried, moved, food, home }
}

pub(super) const ANIMALS: [Animal; 8] = [
    animal(["dog", "barked", "ran", "meat", "kennel"]),
    animal(["cat", "meowed", "crept", "milk", "basket"]),
    animal(["horse", "neighed", "galloped", "hay", "stable"]),
    animal(["hen", "clucked", "strutted", "corn", "coop"]),
    animal(["goat", "bleated", "jumped", "thistles", "shed"]),
    animal(["duck", "quacked", "waddled", "bread", "pond"]),
    animal(["donkey", "brayed", "trotted", "carrots", "barn"]),
    animal(["rabbit", "squealed", "hopped", "clover", "hutch"]),
];

const fn thing(noun: &'static str, used: &'static str) -> Thing {
    Thing { noun, used }
}

pub(super) const THINGS: [Thing; 12] = [
    thing("kite", "flew"),
    thing("ball", "kicked"),
    thing("book", "read"),
    thing("lamp", "lit"),
    thing("coat", "buttoned"),
    thing("boat", "sailed"),
    thing("drum", "beat"),
    thing("bell", "rang"),
    thing("flute", "played"),
    thing("ladder", "climbed"),
    thing("box", "locked"),
    thing("cup", "filled"),
];

pub(super) const COLOURS: [&str; 8] =
    ["red", "blue", "green", "yellow", "white", "black", "brown", "orange"];

const fn place(noun: &'static str, sight: &'static str) -> Place {
    Place { noun, sight }
}

pub(super) const PLACES: [Place; 10] = [
    place("market", "stalls"),
    place("harbour", "ships"),
    place("forest", "deer"),
    place("river", "fishermen"),
    place("school", "pupils"),
    place("station", "trains"),
    place("mountain", "eagles"),
    place("lake", "swans"),
    place("meadow", "butterflies"),
    place("library", "shelves"),
];

/// Where something lost is found.
pub(super) const HIDING: [&str; 4] =
    ["under a bench", "behind a wall", "in a bush", "between two stones"];

const fn food(words: [&'static str; 5]) -> Food {
    let [noun, made, ate, dish, taste] = words;
    Food { noun, made, ate, dish, taste }
}

pub(super) const FOODS: [Food; 8] = [
    food(["soup", "cooked", "ate", "bowl", "hot"]),
    food(["porridge", "stirred", "ate", "bowl", "thick"]),
    food(["cake", "baked", "ate", "slice", "sweet"]),
    food(["bread", "toasted", "ate", "piece", "crisp"]),
    food(["tea", "brewed", "drank", "cup", "bitter"]),
    food(["lemonade", "mixed", "drank", "glass", "sour"]),
    food(["cocoa", "heated", "drank", "mug", "creamy"]),
    food(["fish", "grilled", "ate", "plate", "salty"]),
];

const fn job(words: [&'static str; 5]) -> Job {
    let [noun, place, tool, made, product] = words;
    Job { noun, place, tool, made, product }
}

pub(super) const JOBS: [Job; 8] = [
    job(["baker", "bakery", "oven", "baked", "loaf"]),
    job(["carpenter", "workshop", "saw", "built", "table"]),
    job(["tailor", "shop", "needle", "sewed", "jacket"]),
    job(["smith", "forge", "hammer", "forged", "horseshoe"]),
    job(["potter", "pottery", "wheel", "shaped", "jug"]),
    job(["painter", "studio", "brush", "painted", "portrait"]),
    job(["gardener", "greenhouse", "scissors", "tied", "bouquet"]),
    job(["weaver", "cottage", "loom", "wove", "carpet"]),
];

const fn weather(words: [&'static str; 4]) -> Weather {
    let [begins, effect, gear, ends] = words;
    Weather { begins, effect, gear, ends }
}

pub(super) const WEATHER: [Weather; 4] = [
    weather(["it began to rain", "the streets were wet", "raincoat", "the clouds were gone"]),
    weather(["it began to snow", "the roofs were white", "scarf", "the snow melted"]),
    weather(["the sun shone", "the air was hot", "parasol", "the sun set"]),
    weather(["a wind rose", "the leaves flew about", "shawl", "the wind fell"]),
];

pub(super) const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// From none on. A story never needs more than nine.
pub(super) const NUMBERS: [&str; 10] =
    ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
