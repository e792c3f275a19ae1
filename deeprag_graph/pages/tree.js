"use strict";
// The tree page works without this. It adds arrow keys, the buttons, and the texts of passages where they are cited.
{
  const entries = [...document.querySelectorAll(".entry > details")];
  const heads = entries.map((entry) => entry.firstElementChild);
  const picture = document.querySelector(".picture");
  const links = picture ? [...picture.querySelectorAll("a")] : [];

  const show = {
    all: () => true,
    none: () => false,
    path: (entry) => entry.parentElement.classList.contains("marked"),
  };

  const visible = (head) => {
    let above = head.parentElement.parentElement.closest("details");
    while (above && above.open) above = above.parentElement.closest("details");
    return !above;
  };

  // Opens what a target lies in, and goes there.
  const reveal = (id) => {
    const target = document.getElementById(id);
    if (!target) return;
    for (let at = target.parentElement; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    const own = target.querySelector(":scope > details");
    if (own) own.open = true;
    const place = own ? own.firstElementChild : target;
    if (!own) place.tabIndex = -1;
    place.focus({ preventScroll: true });
    place.scrollIntoView({ block: own ? "center" : "start" });
  };

  const moves = {
    ArrowDown: (head, shown) => shown[shown.indexOf(head) + 1],
    ArrowUp: (head, shown) => shown[shown.indexOf(head) - 1],
    Home: (head, shown) => shown[0],
    End: (head, shown) => shown[shown.length - 1],
    ArrowRight: (head) => {
      const entry = head.parentElement;
      if (entry.open) return entry.querySelector(":scope > ul > .entry > details > summary");
      entry.open = true;
      return head;
    },
    ArrowLeft: (head) => {
      const entry = head.parentElement;
      if (!entry.open) return entry.parentElement.closest("details")?.firstElementChild;
      entry.open = false;
      return head;
    },
  };

  const onOutlineKey = (event) => {
    const head = event.target;
    if (!moves[event.key] || !heads.includes(head) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const next = moves[event.key](head, heads.filter(visible));
    if (next) next.focus();
  };

  const row = (link) => {
    const left = (other) => Number(other.querySelector("circle").getAttribute("cx"));
    return links.filter((other) => other.dataset.depth === link.dataset.depth).sort((a, b) => left(a) - left(b));
  };

  const around = {
    ArrowUp: (link) => links[Number(link.dataset.parent)],
    ArrowDown: (link) => links.find((other) => Number(other.dataset.parent) === links.indexOf(link)),
    ArrowLeft: (link) => row(link)[row(link).indexOf(link) - 1],
    ArrowRight: (link) => row(link)[row(link).indexOf(link) + 1],
    Home: () => links[0],
    End: () => links.findLast((link) => link.classList.contains("marked")) ?? links[links.length - 1],
  };

  const onPictureKey = (event) => {
    const link = event.target.closest("a");
    if (!link || !around[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const next = around[event.key](link);
    if (!next) return;
    for (const other of links) other.setAttribute("tabindex", other === next ? "0" : "-1");
    next.focus();
  };

  // A passage stands once on the page; where it is cited, its text is filled in when the list is opened.
  const fill = (event) => {
    const list = event.target;
    if (!list.open || !list.classList.contains("passages") || list.dataset.filled) return;
    list.dataset.filled = "true";
    for (const link of list.querySelectorAll("a")) {
      const text = document.createElement("p");
      text.dir = "auto";
      text.textContent = document.querySelector(`${link.getAttribute("href")} > p`).textContent;
      link.parentElement.append(text);
    }
  };

  for (const hidden of document.querySelectorAll(".controls, .help")) hidden.hidden = false;
  for (const button of document.querySelectorAll("[data-show]")) {
    button.addEventListener("click", () => {
      for (const entry of entries) entry.open = show[button.dataset.show](entry);
    });
  }
  document.addEventListener("keydown", onOutlineKey);
  document.addEventListener("toggle", fill, true);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#node-'], a[href^='#passage-']");
    if (!link) return;
    event.preventDefault();
    const id = link.getAttribute("href").slice(1);
    history.replaceState(null, "", `#${id}`);
    reveal(id);
  });
  window.addEventListener("hashchange", () => reveal(location.hash.slice(1)));
  if (picture) {
    picture.addEventListener("keydown", onPictureKey);
    const best = links.findLast((link) => link.classList.contains("marked")) ?? links[0];
    const place = best.getBoundingClientRect();
    picture.scrollLeft += place.left + place.width / 2 - picture.getBoundingClientRect().left - picture.clientWidth / 2;
  }
  if (/^#(node|passage)-\d+$/.test(location.hash)) reveal(location.hash.slice(1));
}
