//! The options of the commands that list and change jobs.

/// How options are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `--name=value`, shortened where that is clear, and `-n value`, `-nvalue`, `-hv`.
    Long,
    /// As `Long`, up to the first word that is no option: what follows is a program's own.
    Leading,
    /// `-n value`, `-nvalue`, `-fx`.
    Letters,
    /// `-name value`.
    Names,
}

/// What stands behind an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// A value.
    Value,
    /// A value behind `=`, or nothing.
    Attached,
}

/// An option: its names, the first of which it is known by, and what stands behind it.
#[derive(Debug, Clone, Copy)]
pub struct Opt(pub &'static [&'static str], pub Takes);

/// What is wrong with words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// There is no such option.
    Unknown(String),
    /// It takes a value, and there is none.
    NoValue(String),
    /// It takes none, and there is one.
    Value(String),
}

/// Words that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// The options, by their first name, with what stands behind them.
    pub options: Vec<(&'static str, Option<String>)>,
    /// What is no option.
    pub rest: Vec<String>,
}

impl Words {
    /// Tells whether an option was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(given, _)| *given == name)
    }

    /// Gives the value of an option: the last that was given.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut given = self.options.iter().rev();
        given.find(|(given, _)| *given == name)?.1.as_deref()
    }

    /// Gives the values of an option that takes a list with commas; nothing where it was not given.
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        let given = self.options.iter().filter(|(given, _)| *given == name);
        let values = given.filter_map(|(_, value)| value.as_deref());
        let all: Vec<String> = values
            .flat_map(|text| text.split(','))
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect();
        self.has(name).then_some(all)
    }
}

/// Reads words. With `Long` options may stand behind other words.
///
/// # Errors
/// [`Wrong`], the first that is found.
pub fn read(options: &[Opt], style: Style, words: &[String]) -> Result<Words, Wrong> {
    let mut read = Words::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            read.rest.extend(words.cloned());
            break;
        }
        if word.len() < 2 || !word.starts_with('-') {
            read.rest.push(word.clone());
            if style == Style::Leading {
                read.rest.extend(words.cloned());
                break;
            }
            continue;
        }
        match style {
            Style::Names => {
                let opt = options.iter().find(|opt| opt.0.contains(&word.as_str()));
                let Opt(names, takes) = opt.ok_or_else(|| Wrong::Unknown(word.clone()))?;
                let value = match takes {
                    Takes::Value => Some(words.next().ok_or_else(|| Wrong::NoValue(word.clone()))?),
                    Takes::Nothing | Takes::Attached => None,
                };
                read.options.push((names[0], value.cloned()));
            }
            Style::Long | Style::Leading if word.starts_with("--") => {
                let (name, value) = match word.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (word.as_str(), None),
                };
                let Opt(names, takes) = long(options, name)?;
                let value = match (takes, value) {
                    (Takes::Value, None) => {
                        let next = words.next();
                        Some(next.ok_or_else(|| Wrong::NoValue(name.into()))?.clone())
                    }
                    (Takes::Nothing, Some(_)) => return Err(Wrong::Value(name.into())),
                    (_, value) => value,
                };
                read.options.push((names[0], value));
            }
            Style::Long | Style::Leading | Style::Letters => {
                let mut letters = word[1..].chars();
                while let Some(letter) = letters.next() {
                    let name = format!("-{letter}");
                    let opt = options.iter().find(|opt| opt.0.contains(&name.as_str()));
                    let Opt(names, takes) = opt.ok_or_else(|| Wrong::Unknown(name.clone()))?;
                    let rest = letters.as_str();
                    let value = match takes {
                        Takes::Nothing => None,
                        Takes::Attached => {
                            let value = (!rest.is_empty()).then(|| rest.to_owned());
                            read.options.push((names[0], value));
                            break;
                        }
                        Takes::Value if rest.is_empty() => {
                            Some(words.next().ok_or(Wrong::NoValue(name))?.clone())
                        }
                        Takes::Value => Some(rest.to_owned()),
                    };
                    read.options.push((names[0], value));
                    if *takes == Takes::Value {
                        break;
                    }
                }
            }
        }
    }
    Ok(read)
}

fn long<'o>(options: &'o [Opt], name: &str) -> Result<&'o Opt, Wrong> {
    if let Some(exact) = options.iter().find(|opt| opt.0.contains(&name)) {
        return Ok(exact);
    }
    let starts = |opt: &&Opt| opt.0.iter().any(|known| known.starts_with(name));
    let mut all = options.iter().filter(starts);
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(Wrong::Unknown(name.to_owned())),
    }
}

/// Writes the names of options, for those who wrote another.
pub fn known(options: &[Opt]) -> String {
    let names = options.iter().map(|opt| opt.0.join(" "));
    names.collect::<Vec<_>>().join(", ")
}
