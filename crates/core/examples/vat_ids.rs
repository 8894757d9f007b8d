//! Says of each VAT id on standard input, one a line, whether its form and check digits fit: `1` or `0`. What another
//! implementation is compared with.

use std::io::{BufRead as _, BufWriter, Write as _, stdin, stdout};

use gregal_core::vat;

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    for line in stdin().lock().lines() {
        let line = line?;
        let country = match line.get(..2) {
            Some("EL") => "GR",
            Some(country) => country,
            None => "",
        };
        let fits = country.parse().is_ok_and(|country| vat::id(&line, country).is_ok());
        writeln!(out, "{}", u8::from(fits))?;
    }
    out.flush()
}
