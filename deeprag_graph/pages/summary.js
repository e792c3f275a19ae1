"use strict";
// The summary page works without this. It lets the table of questions be sorted and filtered.
{
  const table = document.querySelector(".questions");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const words = document.getElementById("words");
  const outcome = document.getElementById("outcome");
  const texts = rows.map((row) => row.cells[0].textContent.toLowerCase());

  const filter = () => {
    const wanted = words.value.toLowerCase().trim();
    let shown = 0;
    rows.forEach((row, n) => {
      const fits = texts[n].includes(wanted) && (!outcome.value || row.cells[1].textContent === outcome.value);
      row.hidden = !fits;
      shown += fits;
    });
    document.getElementById("shown").textContent =
      shown === rows.length ? "" : `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} questions`;
  };

  // What has no number comes last in either direction.
  const value = (row, column, kind) => {
    const text = row.cells[column].textContent;
    return kind === "number" ? Number(text.replaceAll(",", "")) : text.toLowerCase();
  };

  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b);
    return a - b;
  };

  const sort = (head) => {
    const column = head.cellIndex;
    const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const keys = new Map(rows.map((row) => [row, value(row, column, head.dataset.sort)]));
    const missing = (row) => Number.isNaN(keys.get(row));
    const order = [...rows].sort(
      (a, b) => missing(a) - missing(b) || (missing(a) ? 0 : turn * compare(keys.get(a), keys.get(b))),
    );
    body.append(...order);
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
  };

  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head));
    head.append(button);
  }
  document.querySelector(".controls").hidden = false;
  words.addEventListener("input", filter);
  outcome.addEventListener("change", filter);
}
