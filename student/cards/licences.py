"""What the front matter of a card may call the licences that rows name.

The hub knows a closed list of identifiers; most are SPDX names in lower case. Whatever is not in it, and whatever is
more than one, is `other` there, and the card lists the names.
"""

import re
from collections.abc import Collection

_LISTED = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1
lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
deepfloyd-if-license llama2 gemma unknown other
"""
KNOWN = frozenset(_LISTED.split())
"""https://huggingface.co/docs/hub/repositories-licenses, as it was in November 2026."""


def front_matter(named: Collection[str | None]) -> dict[str, str]:
    """`license`, and where it is `other` a `license_name`, for rows that name these licences; None is none named.

    >>> front_matter({"MIT"}), front_matter({None}), front_matter(set())
    ({'license': 'mit'}, {'license': 'unknown'}, {'license': 'unknown'})
    >>> front_matter({"MIT", "Apache-2.0"}), front_matter({"MIT", None})
    ({'license': 'other', 'license_name': 'mixed'}, {'license': 'other', 'license_name': 'mixed'})
    >>> front_matter({"My: Licence\\n1"})
    {'license': 'other', 'license_name': 'my-licence-1'}
    """
    identifiers = {"unknown" if name is None else name.strip().lower() for name in named} or {"unknown"}
    if len(identifiers) > 1:
        return {"license": "other", "license_name": "mixed"}
    [only] = identifiers
    if only in KNOWN and only != "other":
        return {"license": only}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", only).strip("-.")[:60] or "unnamed"}
