//! What the demonstration prints: titles, steps with their outcome, output of
//! commands, a summary. Colour only on a terminal.

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    process::ExitCode,
};

use anyhow::Result;

const BOLD: &str = "1";
const FAINT: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

pub struct Screen {
    has_colour: bool,
    outcomes: Vec<Outcome>,
}

struct Outcome {
    step: String,
    /// What happened, or what went wrong.
    told: Result<String, String>,
}

impl Screen {
    pub fn new() -> Self {
        Self { has_colour: stdout().is_terminal(), outcomes: Vec::new() }
    }

    pub fn title(&self, title: &str) {
        println!("\n{}\n", self.paint(BOLD, title));
    }

    /// Lines that stand a little to the right.
    pub fn text(&self, text: &str) {
        for line in text.lines() {
            println!("    {line}");
        }
    }

    /// A command and what it printed.
    pub fn output(&self, command: &str, output: &str) {
        println!("    {}", self.paint(FAINT, &format!("$ {command}")));
        self.text(output.trim_end());
        println!();
    }

    /// Does a step, says how it went and goes on.
    pub fn step(&mut self, step: &str, act: impl FnOnce(&Self) -> Result<String>) {
        let number = self.outcomes.len() + 1;
        print!("{number:>3}  {step:<58} ");
        // Without the flush a terminal shows the line when it is over.
        let _ = stdout().flush();
        let told = act(self).map_err(|error| format!("{error:#}"));
        match &told {
            Ok(told) => println!("{}  {told}", self.paint(GREEN, "ok")),
            Err(error) => println!("{}\n     {error}", self.paint(RED, "NOT AS EXPECTED")),
        }
        self.outcomes.push(Outcome { step: step.into(), told });
    }

    /// A step that shows something while it is done.
    pub fn shown_step(&mut self, step: &str, act: impl FnOnce(&Self) -> Result<String>) {
        println!("     {step}\n");
        self.step(step, act);
        println!();
    }

    /// Every step again, and the exit status.
    pub fn summary(&self) -> ExitCode {
        self.title("Summary");
        for (number, Outcome { step, told }) in self.outcomes.iter().enumerate() {
            let mark = match told {
                Ok(_) => self.paint(GREEN, "ok"),
                Err(_) => self.paint(RED, "no"),
            };
            println!("{:>3}  {mark}  {step}", number + 1);
        }
        let failed = self.outcomes.iter().filter(|outcome| outcome.told.is_err()).count();
        let steps = self.outcomes.len();
        if failed == 0 {
            println!("\n{}", self.paint(GREEN, &format!("All {steps} steps went as expected.")));
            ExitCode::SUCCESS
        } else {
            let said = format!("{failed} of {steps} steps did not go as expected.");
            println!("\n{}", self.paint(RED, &said));
            ExitCode::FAILURE
        }
    }

    pub fn broken_off(&self, error: &anyhow::Error) {
        eprintln!("\n{} {error:#}", self.paint(RED, "The demonstration cannot go on:"));
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.has_colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.into() }
    }
}
