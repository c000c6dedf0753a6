// The numbers of a token, by pointer or keyboard; what tokens are coloured by; the button that stops a stream.
// One listener for all tokens: an explanation has thousands.
"use strict";
(() => {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  const said = document.createElement("div");
  said.className = "hidden";
  said.setAttribute("role", "status");
  document.addEventListener("DOMContentLoaded", () => document.body.append(tip, said));

  const number = (text) => (text === "-" || text === undefined ? null : Number(text));
  const nats = (value) => value.toFixed(3).replace("-", "−");
  const signed = (value) => (value < 0 ? "" : "+") + nats(value);
  const chance = (logp) => {
    const percent = 100 * Math.exp(logp);
    return percent < 0.1 ? "under 0.1 %" : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
  };
  const seen = (text) => text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\r/g, "␍").replace(/\t/g, "⇥");

  function lines(token) {
    const [id, first, second, third] = token.dataset.v.split(" ");
    const [logp, other, last] = [first, second, third].map(number);
    const told = [`${seen(token.textContent) || "part of a character"}  (token ${id})`];
    if (token.closest(".tokens").dataset.kind === "explanation") {
      told.push(`student ${nats(logp)} nats, ${chance(logp)}`);
      if (other !== null) told.push(`teacher ${nats(other)} nats, ${chance(other)}`);
      if (last !== null) told.push(`KL ${nats(last)} nats`);
    } else {
      told.push(`with the explanation ${nats(logp)} nats, ${chance(logp)}`);
      if (other !== null) told.push(`without it ${nats(other)} nats, ${chance(other)}`);
      if (last !== null) told.push(`gain ${signed(last)} nats`);
    }
    return told;
  }

  let shown = null;
  function hide() {
    shown?.classList.remove("active");
    shown = null;
    tip.hidden = true;
  }
  function show(token) {
    if (token === shown) return;
    hide();
    shown = token;
    token.classList.add("active");
    tip.replaceChildren(...lines(token).map((line) => {
      const row = document.createElement("div");
      row.textContent = line;
      return row;
    }));
    tip.hidden = false;
    const place = token.getClientRects()[0] ?? token.getBoundingClientRect();
    const left = Math.min(place.left, innerWidth - tip.offsetWidth - 8);
    const below = place.bottom + 6;
    const top = below + tip.offsetHeight > innerHeight ? place.top - tip.offsetHeight - 6 : below;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  }

  document.addEventListener("pointerover", (event) => {
    const token = event.target.closest?.(".t");
    if (token) show(token);
    else if (!event.target.closest?.(".tokens")) hide();
  });
  document.addEventListener("scroll", hide, { passive: true, capture: true });

  const lists = new WeakMap();
  function tokensOf(box) {
    if (!lists.has(box)) lists.set(box, { all: [...box.querySelectorAll(".t")], at: -1 });
    return lists.get(box);
  }
  const moves = {
    ArrowRight: (list) => list.at + 1,
    ArrowLeft: (list) => list.at - 1,
    Home: () => 0,
    End: (list) => list.all.length - 1,
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const box = event.target.closest?.(".tokens");
    const move = box && box === event.target ? moves[event.key] : null;
    if (!move) return;
    event.preventDefault();
    const list = tokensOf(box);
    if (!list.all.length) return;
    list.at = Math.max(0, Math.min(list.all.length - 1, move(list)));
    const token = list.all[list.at];
    token.scrollIntoView({ block: "nearest" });
    requestAnimationFrame(() => {
      show(token);
      said.textContent = lines(token).join(", ");
    });
  });
  document.addEventListener("focusout", (event) => {
    if (event.target.closest?.(".tokens")) hide();
  });

  document.addEventListener("change", (event) => {
    const view = event.target.name?.startsWith("by-") ? event.target.closest(".view") : null;
    if (view) view.dataset.by = event.target.value;
  });
  document.addEventListener("click", (event) => {
    const stop = event.target.closest?.("[data-stop]");
    if (!stop) return;
    document.getElementById(stop.dataset.stop).dispatchEvent(new Event("htmx:abort"));
    for (const busy of document.querySelectorAll("[aria-busy]")) {
      busy.removeAttribute("aria-busy");
      busy.querySelector("h2").textContent = "Stopped";
    }
  });
})();
