//! Reads a record in text, by the rules that the README gives: `key=value` with one space between
//! two, a value in double quotes if it needs them, `\"` and `\\` in them.

/// Keys and values in their order; `None` if the line is not lawful.
pub fn logfmt(line: &str) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    let mut letters = line.chars().peekable();
    loop {
        let mut key = String::new();
        loop {
            match letters.next()? {
                '=' => break,
                letter if letter.is_ascii_lowercase() || letter == '_' => key.push(letter),
                _ => return None,
            }
        }
        let mut value = String::new();
        if letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next()? {
                    '"' => break,
                    '\\' => value.push(letters.next().filter(|c| matches!(c, '"' | '\\'))?),
                    letter => value.push(letter),
                }
            }
        } else {
            while let Some(letter) = letters.next_if(|letter| *letter != ' ') {
                if matches!(letter, '"' | '=' | '\\') {
                    return None;
                }
                value.push(letter);
            }
            if value.is_empty() {
                return None;
            }
        }
        fields.push((key, value));
        match letters.next() {
            None => return Some(fields),
            Some(' ') => {}
            Some(_) => return None,
        }
    }
}
