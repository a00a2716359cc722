"""The systems that FIRES is compared with: trained baselines, one short file each, and few-shot prompts for services."""
