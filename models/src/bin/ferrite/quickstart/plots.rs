//! What happens: a story is one of these plots, a plot a list of beats in their order, a beat one of
//! several ways to say it. Words in braces are filled in by [`Cast`](super::grammar::Cast).
//!
//! The beats of a plot speak of the same people and things, causes come before effects, and what is
//! left out of one sentence can be found in another: that is what there is to learn.

/// Ways to say one thing, each a sentence or two.
pub(super) type Beat = &'static [&'static str];

/// All plots.
pub(super) const PLOTS: [&[Beat]; 7] = [LOST, PRESENT, SUPPER, RUNAWAY, VISIT, WORK, WALK];

const LOST: &[Beat] = &[
    &["{A} had a {colour} {thing}.", "{A} was proud of {A.his} {colour} {thing}."],
    &["On {day} {A.he} took it to the {place}.", "{A.he} carried it to the {place} on {day}."],
    &[
        "There {A.he} looked at the {sight} and lost the {thing}.",
        "While {A.he} watched the {sight}, the {thing} disappeared.",
    ],
    &[
        "In the evening the {colour} {thing} was gone, and {A} was sad.",
        "At home {A.he} missed the {thing}. {A} cried.",
    ],
    &["{B} heard of it and wanted to help {A.him}.", "{A} asked {B} for help."],
    &[
        "Together they went back to the {place} and searched.",
        "{A} and {B} returned to the {place} and looked everywhere.",
    ],
    &["{B} found the {colour} {thing} {hiding}.", "At last {B.he} found it {hiding}."],
    &[
        "{B} gave the {thing} back to {A}, and {A.he} was happy.",
        "Now {A} had the {colour} {thing} again and thanked {B.him}.",
    ],
];

const PRESENT: &[Beat] = &[
    &["It was the birthday of {B}.", "On {day} {B} had a birthday."],
    &[
        "{A} wanted to give {B.him} a {thing}.",
        "{A} went to the market to buy a present for {B.him}.",
    ],
    &[
        "In a little shop {A.he} saw a {colour} {thing}.",
        "{A.he} looked for a long time and chose a {colour} {thing}.",
    ],
    &["It cost {n} coins.", "{A} paid {n} coins for the {thing}."],
    &[
        "{A} gave the {colour} {thing} to {B}.",
        "{A} brought the {thing} to {B} in the evening.",
        "{B} got the {colour} {thing} from {A}.",
    ],
    &["Now {B} had the {colour} {thing}.", "Now {B} had a {colour} {thing}, and {B.he} smiled."],
    &["{B} {used} the {thing} at once.", "{B} thanked {A.him} and {used} the {thing}."],
    &["Then they {ate} a {dish} of {food}. The {food} was {taste}."],
];

const SUPPER: &[Beat] = &[
    &["In the evening {A} was {hungry}.", "{A} came home and was {hungry}."],
    &["There was no {food} in the house.", "{A.he} wanted a {dish} of {food}."],
    &["So {A.he} {made} some {food}.", "{A.he} went to the kitchen and {made} some {food}."],
    &["{B} knocked at the door. {B.he} was {hungry}, too.", "Then {B} came to visit {A.him}."],
    &[
        "{A} gave {B.him} a {dish} of {food}.",
        "{A} put a {dish} of {food} on the table for {B}.",
        "{B} got a {dish} of {food} from {A}.",
    ],
    &["{B} {ate} the {food}. It was {taste}.", "They {ate} the {food}, and it was {taste}."],
    &["{B} was not {hungry} any more and thanked {A.him}.", "{B} thanked {A} and went home."],
];

const RUNAWAY: &[Beat] = &[
    &[
        "{A} had a {animal}. Its name was {pet}.",
        "{pet} was the {animal} of {A}.",
        "{A} had a {colour} {animal} called {pet}.",
    ],
    &["{pet} lived in a {home}.", "At night {pet} slept in the {home}."],
    &[
        "On {day} the {home} was empty. {pet} was gone.",
        "On {day} {A} forgot to close the {home}. The {animal} {moved} away.",
    ],
    &["{A} and {B} looked for the {animal} at the {place}.", "{B} helped {A} to look for {pet}."],
    &["Suddenly something {cried} {hiding}.", "Then they heard that {pet} {cried}."],
    &["It was {pet}. The {animal} was hungry.", "{B} saw the {animal} {hiding}."],
    &["{A} gave {pet} some {fodder}.", "{B} fed the {animal} with {fodder}."],
    &[
        "{pet} {moved} back to the {home}, and {A} was happy.",
        "Now {pet} was in the {home} again, and {A} closed it.",
    ],
];

const VISIT: &[Beat] = &[
    &["On {day} {A} went to see {B}.", "{A} visited {B} on {day}."],
    &["{B} had a {animal}, and {A.he} had none.", "{B} showed {A.him} {B.his} {animal}."],
    &["The {animal} {cried} when {A.he} came.", "{A} opened the {home}, and the {animal} {cried}."],
    &["It was hungry. {A} gave it some {fodder}.", "{A} fed it with {fodder}."],
    &[
        "The {animal} {moved} to {A} and ate the {fodder}.",
        "It ate the {fodder} and {moved} about.",
    ],
    &["Then the {animal} went back to its {home} and slept.", "Then it slept in its {home}."],
    &["{A} liked the {animal} of {B}.", "{A} wanted a {animal}, too."],
];

const WORK: &[Beat] = &[
    &["{A} was a {job}.", "{A} worked as a {job}."],
    &["{A.he} worked in a {workplace}.", "Every {day} {A.he} opened the {workplace}."],
    &["{B} needed a {product}.", "{B} came to the {workplace} to buy a {product}."],
    &["{A} took the {tool} and {produced} a {product}.", "The {job} used the {tool}."],
    &[
        "{A} {produced} a {colour} {product} for {B}.",
        "On {day} the {colour} {product} was ready. {A} was a good {job}.",
    ],
    &[
        "{B} paid {n} coins. {A} had {n} coins, and {B} had the {product}.",
        "{A} sold the {product} to {B} for {n} coins. Now {B} had the {product}.",
        "{B} bought the {product} from {A} for {n} coins. Now {A} had {n} coins.",
    ],
    &["{B} carried the {product} home.", "{B.he} thanked the {job} and went home."],
];

const WALK: &[Beat] = &[
    &["On {day} {A} and {B} walked to the {place}.", "{A} took {B} to the {place} on {day}."],
    &["Soon {begins}, and {effect}.", "Then {begins}. Soon {effect}."],
    &[
        "They had only one {gear}. {A} took the {gear}.",
        "{A} had a {gear}, but {B} had forgotten it.",
    ],
    &[
        "{A} gave the {gear} to {B}. Now {B} had the {gear}.",
        "{B} asked {A} for the {gear}. {A.he} gave it to {B.him}.",
    ],
    &["At the {place} they looked at the {sight}.", "They saw the {sight} of the {place}."],
    &["In the evening {ends}.", "They waited until {ends}."],
    &[
        "At home {A} {made} some {food}, and they {ate} it.",
        "{B} {made} some {food} for {A.him}. It was {taste}.",
    ],
];
