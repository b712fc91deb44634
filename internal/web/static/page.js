// Replaces the parts of a page as the daemon renders them anew. Without it the
// page shows what was true when it was loaded.
(() => {
  "use strict";
  const url = document.body.dataset.live;
  const note = document.getElementById("connection");
  if (!url || !window.EventSource) return;

  const held = new Map(); // parts that wait until nothing in them is selected
  let source = null, wait = 1000, timer = 0;

  const say = (text, off) => {
    if (note.textContent !== text) note.textContent = text;
    note.classList.toggle("off", off);
    note.hidden = false;
  };

  const selectedIn = (el) => {
    const s = document.getSelection();
    return s && !s.isCollapsed && (el.contains(s.anchorNode) || el.contains(s.focusNode));
  };

  const replace = (id, html) => {
    const el = document.querySelector(`[data-part="${CSS.escape(id)}"]`);
    if (!el) return;
    if (selectedIn(el)) {
      held.set(id, html);
      return;
    }
    held.delete(id);
    const active = document.activeElement;
    const keep = active && active !== document.body && el.contains(active) ?
      (active.id ? "#" + CSS.escape(active.id) :
        active.getAttribute("href") ? `[href="${CSS.escape(active.getAttribute("href"))}"]` : "") : "";
    const scrolled = [...el.querySelectorAll(".scroll")].map((s) => [s.scrollLeft, s.scrollTop]);
    el.innerHTML = html; // rendered by the daemon, which escapes what is in it
    el.querySelectorAll(".scroll").forEach((s, i) => {
      if (scrolled[i]) [s.scrollLeft, s.scrollTop] = scrolled[i];
    });
    if (keep) {
      const again = el.querySelector(keep);
      if (again) again.focus({preventScroll: true});
    }
  };

  document.addEventListener("selectionchange", () => {
    for (const [id, html] of [...held]) replace(id, html);
  });

  const open = () => {
    clearTimeout(timer);
    source = new EventSource(url);
    source.onopen = () => {
      wait = 1000;
      say("Live", false);
    };
    source.addEventListener("part", (e) => {
      const {id, html} = JSON.parse(e.data);
      replace(id, html);
    });
    source.onerror = () => {
      source.close();
      say("Not live: reconnecting", true);
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, 30000);
    };
  };

  const close = () => {
    clearTimeout(timer);
    if (source) source.close();
  };
  addEventListener("pagehide", close);
  addEventListener("pageshow", (e) => {
    if (e.persisted) open();
  });
  open();
})();
