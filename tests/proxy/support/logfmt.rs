//! Parses a text record by the rules in the README: `key=value` pairs separated by one space,
//! values in double quotes where necessary, with `\"` and `\\` as escapes.

/// Keys and values in order; `None` if the line is malformed.
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
