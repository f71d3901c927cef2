//! The commands that a shell script starts, as far as its text shows.

use crate::root::base_name;

/// How many commands of a script are looked at.
const COMMANDS_MAX: usize = 64;

/// Tells whether a program's name is that of a shell.
pub fn is_shell(name: &str) -> bool {
    ["sh", "bash", "dash", "ash", "ksh", "zsh", "busybox"].contains(&name)
}

/// Tells whether a program starts the ranks of a parallel program itself.
pub fn is_launcher(name: &str) -> bool {
    const LAUNCHERS: [&str; 7] = [
        "mpirun", "mpiexec", "orterun", "prterun", "srun", "aprun", "jsrun",
    ];
    let stem = name.split('.').next().unwrap_or(name);
    LAUNCHERS.contains(&stem)
}

/// Takes the programs off the front that only change how the next one runs:
/// `env A=b timeout 5 ./x` is `./x`.
pub fn unwrap(argv: &[String]) -> &[String] {
    const WRAPPERS: [&str; 12] = [
        "env", "exec", "time", "timeout", "nice", "ionice", "nohup", "setsid", "stdbuf", "taskset",
        "numactl", "chrt",
    ];
    let mut rest = argv;
    while let Some((first, tail)) = rest.split_first() {
        if !WRAPPERS.contains(&base_name(first)) {
            return rest;
        }
        // What cannot be a program's name: options, settings, numbers and durations.
        let is_program = |word: &String| {
            let first = word.chars().next().unwrap_or('-');
            !word.contains('=') && first != '-' && !first.is_ascii_digit()
        };
        let next = tail.iter().position(is_program).unwrap_or(tail.len());
        rest = &tail[next..];
    }
    rest
}

/// Reads the simple commands out of a script, one list of words each.
///
/// It knows quotes, comments, separators and the words of control flow; it
/// expands nothing. What it cannot follow, it leaves as it is written.
pub fn commands(script: &str) -> Vec<Vec<String>> {
    const KEYWORDS: [&str; 14] = [
        "if", "then", "else", "elif", "fi", "while", "until", "do", "done", "{", "}", "!", "(",
        "esac",
    ];
    let mut commands = Vec::new();
    for words in split(script) {
        let mut words = words.as_slice();
        while let Some((first, rest)) = words.split_first() {
            let setting = first.split_once('=').is_some_and(|(name, _)| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            });
            if !setting && !KEYWORDS.contains(&first.as_str()) {
                break;
            }
            words = rest;
        }
        let words = unwrap(words);
        if !words.is_empty() && !["for", "case"].contains(&words[0].as_str()) {
            commands.push(words.to_vec());
        }
        if commands.len() >= COMMANDS_MAX {
            break;
        }
    }
    commands
}

fn split(script: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let (mut words, mut word, mut in_word) = (Vec::new(), String::new(), false);
    let mut chars = script.chars().peekable();
    let end_word = |words: &mut Vec<String>, word: &mut String, in_word: &mut bool| {
        if std::mem::take(in_word) {
            words.push(std::mem::take(word));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(c) => {
                    word.push(c);
                    in_word = true;
                }
            },
            '\'' | '"' => {
                in_word = true;
                word.extend(chars.by_ref().take_while(|inner| *inner != c));
            }
            '#' if !in_word => while chars.next_if(|c| *c != '\n').is_some() {},
            ' ' | '\t' | '\r' => end_word(&mut words, &mut word, &mut in_word),
            '\n' | ';' | '|' | '&' | '(' | ')' | '`' => {
                end_word(&mut words, &mut word, &mut in_word);
                if !words.is_empty() {
                    commands.push(std::mem::take(&mut words));
                }
            }
            c => {
                word.push(c);
                in_word = true;
            }
        }
    }
    end_word(&mut words, &mut word, &mut in_word);
    commands.push(words);
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(script: &str) -> Vec<String> {
        commands(script).iter().map(|c| c.join(" ")).collect()
    }

    #[test]
    fn commands_are_found_between_the_words_of_the_shell() {
        let script = "#!/bin/sh\nset -e\nOMP_NUM_THREADS=2 ./solve 'a b' \\\n  --fast # now\n\
            if test -f x; then mpiexec -n 4 ./y && echo done; fi\ncat z | env A=1 timeout 5 sort -u\n";
        assert_eq!(
            show(script),
            [
                "set -e",
                "./solve a b --fast",
                "test -f x",
                "mpiexec -n 4 ./y",
                "echo done",
                "cat z",
                "sort -u",
            ]
        );
    }

    #[test]
    fn launchers_and_shells_are_known_by_name() {
        for yes in ["mpirun", "mpiexec.hydra", "mpirun.openmpi", "srun"] {
            assert!(is_launcher(yes), "{yes}");
        }
        assert!(!is_launcher("mpicc") && !is_launcher("mpirunner"));
    }

    proptest! {
        #[test]
        fn any_script_is_read(script in any::<String>()) {
            prop_assert!(commands(&script).len() <= COMMANDS_MAX);
        }
    }
}
