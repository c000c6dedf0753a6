// A file that is too long is told before it is sent: what breaks off on the way shows no reason.
"use strict";
document.addEventListener("change", (event) => {
  const field = event.target;
  if (!field.dataset?.longest) return;
  const [file] = field.files;
  const longest = Number(field.dataset.longest);
  const told = file && file.size > longest ? `${file.name} has ${file.size} bytes, and at most ${longest} are taken: split it` : "";
  field.setCustomValidity(told);
  field.reportValidity();
});
