//! What the nodes of a job must have, as batch systems write it: `haswell&(ib|opa)`,
//! `[rack1|rack2]`, `rack1*2&rack2*1`, `model=ivy`, `avx512 && maxmem>64000`.

use std::collections::BTreeSet;

/// Something that a node has or has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// All of these.
    All(Vec<Wish>),
    /// One of these.
    Any(Vec<Wish>),
    /// Not this.
    Not(Box<Wish>),
    /// On so many nodes.
    On(u32, Box<Wish>),
    /// This name.
    Has(String),
    /// A name, how it compares, and with what.
    Is(String, Compare, String),
}

/// How a value of a node compares with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    AtMost,
    AtLeast,
    More,
}

/// The longer come first.
const COMPARES: [(&str, Compare); 7] = [
    ("==", Compare::Equal),
    ("!=", Compare::NotEqual),
    ("<=", Compare::AtMost),
    (">=", Compare::AtLeast),
    ("=", Compare::Equal),
    ("<", Compare::Less),
    (">", Compare::More),
];

/// What may lie in each other.
const DEPTH: usize = 32;

impl Wish {
    /// Reads one; `None` where it is none.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text.trim() };
        let wish = reader.any(0)?;
        reader.rest.is_empty().then_some(wish)
    }

    /// Tells whether a node has it, by its features: names, and `name=value`.
    pub(crate) fn holds(&self, node: &BTreeSet<String>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|wish| wish.holds(node)),
            // Where nodes are counted each has one of what is counted.
            Self::Any(any) => any.iter().any(|wish| wish.holds(node)),
            Self::Not(wish) => !wish.holds(node),
            Self::On(_, wish) => wish.holds(node),
            Self::Has(name) => node.contains(name),
            Self::Is(name, compare, value) => is(node, name, *compare, value),
        }
    }

    /// Gives what is counted, and on how many nodes it must be.
    pub(crate) fn counts(&self) -> Vec<(u32, &Self)> {
        match self {
            Self::On(count, wish) => vec![(*count, wish)],
            Self::All(all) | Self::Any(all) => all.iter().flat_map(Self::counts).collect(),
            Self::Not(_) | Self::Has(_) | Self::Is(..) => Vec::new(),
        }
    }
}

fn is(node: &BTreeSet<String>, name: &str, compare: Compare, value: &str) -> bool {
    let values = node.iter().filter_map(|fact| {
        let (its, value) = fact.split_once('=')?;
        (its == name).then_some(value)
    });
    let values: Vec<&str> = values.collect();
    // What is there or not has no value of its own.
    let truth = match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" => Some(true),
        "false" | "0" | "no" | "n" | "f" => Some(false),
        _ => None,
    };
    if let (Some(truth), true) = (truth, values.is_empty()) {
        let equal = node.contains(name) == truth;
        return match compare {
            Compare::Equal => equal,
            Compare::NotEqual => !equal,
            _ => false,
        };
    }
    let number = |text: &str| text.parse::<f64>().ok();
    let numbers = |of: fn(&f64, &f64) -> bool| {
        let wanted = number(value);
        let mut own = values.iter().filter_map(|value| number(value));
        wanted.is_some_and(|wanted| own.any(|own| of(&own, &wanted)))
    };
    let wanted = value.to_ascii_lowercase();
    let equal = || {
        values
            .iter()
            .any(|own| like(&wanted, &own.to_ascii_lowercase()))
    };
    match compare {
        Compare::Equal => equal(),
        Compare::NotEqual => !equal(),
        Compare::Less => numbers(f64::lt),
        Compare::AtMost => numbers(f64::le),
        Compare::AtLeast => numbers(f64::ge),
        Compare::More => numbers(f64::gt),
    }
}

/// Matches a name against a pattern, in which `*` stands for anything and `?` for one
/// character.
pub(crate) fn like(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut read) = (0, 0);
    // Where the last `*` stands, and up to where it has eaten.
    let mut star = None;
    while read < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(c) if *c == '?' || *c == name[read] => (at, read) = (at + 1, read + 1),
            _ => {
                let Some((stands, eaten)) = star else {
                    return false;
                };
                star = Some((stands, eaten + 1));
                (at, read) = (stands + 1, eaten + 1);
            }
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn eat(&mut self, words: &[&str]) -> bool {
        let found = words.iter().find_map(|word| self.rest.strip_prefix(word));
        if let Some(rest) = found {
            self.rest = rest.trim_start();
        }
        found.is_some()
    }

    fn any(&mut self, depth: usize) -> Option<Wish> {
        let mut any = vec![self.all(depth)?];
        while self.eat(&["||", "|"]) {
            any.push(self.all(depth)?);
        }
        match any.len() {
            1 => any.pop(),
            _ => Some(Wish::Any(any)),
        }
    }

    fn all(&mut self, depth: usize) -> Option<Wish> {
        let mut all = vec![self.one(depth)?];
        while self.eat(&["&&", "&", ","]) {
            all.push(self.one(depth)?);
        }
        match all.len() {
            1 => all.pop(),
            // `rack1*2&rack2*4`: some nodes have the one, and some the other.
            _ if all.iter().all(|wish| matches!(wish, Wish::On(..))) => Some(Wish::Any(all)),
            _ => Some(Wish::All(all)),
        }
    }

    fn one(&mut self, depth: usize) -> Option<Wish> {
        if depth > DEPTH {
            return None;
        }
        if self.eat(&["!"]) {
            return Some(Wish::Not(Box::new(self.one(depth + 1)?)));
        }
        let wish = match (self.eat(&["("]), self.eat(&["["])) {
            (false, false) => self.name()?,
            (round, _) => {
                let wish = self.any(depth + 1)?;
                let end = if round { ")" } else { "]" };
                if !self.eat(&[end]) {
                    return None;
                }
                wish
            }
        };
        if !self.eat(&["*"]) {
            return Some(wish);
        }
        let digits = self.rest.find(|c: char| !c.is_ascii_digit());
        let (count, rest) = self.rest.split_at(digits.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        Some(Wish::On(count.parse().ok()?, Box::new(wish)))
    }

    fn word(&mut self, end: &[char]) -> Option<String> {
        let at = self
            .rest
            .find(|c: char| c.is_whitespace() || end.contains(&c));
        let (word, rest) = self.rest.split_at(at.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        (!word.is_empty()).then(|| word.trim_matches(['"', '\'']).to_owned())
    }

    fn name(&mut self) -> Option<Wish> {
        let name = self.word(&['&', '|', '!', '(', ')', '[', ']', '*', '=', '<', '>', ','])?;
        let compare = COMPARES
            .iter()
            .find(|(word, _)| self.rest.starts_with(word));
        let Some((word, compare)) = compare else {
            return Some(Wish::Has(name));
        };
        self.eat(&[word]);
        let value = self.word(&['&', '|', '(', ')', '[', ']', '<', '>', ','])?;
        Some(Wish::Is(name, *compare, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> Option<bool> {
        let node = [
            "haswell",
            "ib",
            "avx512",
            "model=ivy",
            "maxmem=128000",
            "arch=lx-amd64",
        ];
        let node = node.map(str::to_owned).into();
        Wish::read(text).map(|wish| wish.holds(&node))
    }

    #[test]
    fn wishes_are_read_as_their_batch_systems_write_them() {
        for (text, right) in [
            ("haswell", true),
            ("skylake", false),
            ("haswell&ib", true),
            ("haswell&opa", false),
            ("opa|ib", true),
            ("[opa|ib]", true),
            ("haswell&(opa|ib)", true),
            ("[rack1*2&haswell*1]", true),
            ("haswell,ib", true),
            ("model=ivy&bigmem=False", true),
            ("bigmem=true", false),
            ("arch=lx-amd64", true),
            ("arch=lx*", true),
            ("arch=LX-AMD??", true),
            ("arch=lx?", false),
            ("(arch=sol*|arch=*-amd*)&!arch=*-x86", true),
            ("!arch=*64", false),
            ("avx512 && maxmem>64000", true),
            ("maxmem > 256000", false),
            ("!bigmem && model!=sky", true),
            ("filesystems=home:eagle", false),
        ] {
            assert_eq!(holds(text), Some(right), "{text}");
        }
        for wrong in ["", "a&", "(a", "a]", "a*x", "&a", &"(".repeat(100)] {
            assert_eq!(holds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_counted_is_told() {
        let wish = Wish::read("[rack1*2&rack2*4]").expect("a wish");
        let counts: Vec<u32> = wish.counts().iter().map(|(count, _)| *count).collect();
        assert_eq!(counts, [2, 4]);
    }
}
