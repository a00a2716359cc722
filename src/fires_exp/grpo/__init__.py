"""GRPO with the rewards of FIRES: the whole algorithm (paper, 3.4.2 and 3.4.3).

    prompts of a step                                                       list[EncodedPrompt], P of them
         │  rollouts.collect_rollouts     sample and parse G completions for each prompt
         ▼
    RolloutGroup × P                                                        prompt, example, G × Rollout
         │  rewards.score_groups          Eq. 4-5: format, consistency, support skill
         ▼
    RewardBreakdown × P × G                                                 rewards_PG [P, G]
         │  batch.RolloutBatch            groups and rewards of the step, cut into micro-batches with masks and weights
         ▼
    RolloutBatch                                                            B = P·G completions of up to C tokens
         │  advantages.group_advantages   Eq. 1: each reward against the mean and std of its group
         ▼
    advantages_B [B]
         │  loss.grpo_loss                Eq. 2-3: -(ratio · advantage) + beta · KL to the reference policy
         ▼
    loss ─► gradient ─► optimizer step    module.GrpoModule: `training_step` calls the above in this order, then records

Read the files in this order:

    rollouts.py     Rollout, RolloutGroup, collect_rollouts
    rewards.py      Eq. 4-5: the reward parts, their weighted total, score_groups
    advantages.py   Eq. 1 (torch only)
    loss.py         Eq. 2-3 (torch only)
    batch.py        RolloutBatch, MicroBatch
    module.py       GrpoModule: one training step, distributed and resumable

`monitoring/` computes what a step logs and detects reward hacking (Appendix E); it never changes what is trained.
"""
