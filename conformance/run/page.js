"use strict";
const rows = [...document.querySelectorAll("#vectors tbody tr")];
const [text, outcome, suite] = ["text", "outcome", "suite"].map((id) => document.getElementById(id));
const total = rows.reduce((sum, row) => sum + Number(row.dataset.count), 0);
function show() {
  const words = text.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const row of rows) {
    const fits = (!suite.value || row.dataset.suite === suite.value)
      && (!outcome.value || row.dataset.outcome === outcome.value
          || (outcome.value === "attention" && row.dataset.judgement !== "pass"))
      && words.every((word) => row.dataset.text.includes(word));
    row.hidden = !fits;
    shown += fits * row.dataset.count;
  }
  document.getElementById("shown").textContent = `${shown} of ${total}`;
}
for (const control of [text, outcome, suite]) control.addEventListener("input", show);
show();
