"""Frame sensitivity: swapping the frames of two instances changes log-probabilities."""

from making import face, make_example

from fires_exp.policy.frame_sensitivity import frame_effect, frame_sensitivity, swap_frames


def test_swapped_frames_change_log_probabilities(tiny, encoder):
    first = encoder.encode(make_example("first"), [[face("red")]])
    second = encoder.encode(make_example("second"), [[face("blue")]])
    completion_ids = encoder.completion_ids("Tell me more.")
    assert frame_effect(tiny, first, swap_frames(first, second), completion_ids) > 1e-4
    assert frame_effect(tiny, first, first, completion_ids) == 0.0


def test_frames_of_different_sizes_are_not_swapped(encoder):
    first = encoder.encode(make_example("first"), [[face("red")]])
    assert swap_frames(first, encoder.encode(make_example("second"), [[face("blue", 168)]])) is None
    assert swap_frames(encoder.encode(make_example("third"), [[]]), first) is None


def test_the_first_pair_of_instances_with_frames_of_one_size_is_measured(tiny, encoder):
    prompts = {
        "text": encoder.encode(make_example("text"), [[]]),
        "large": encoder.encode(make_example("large"), [[face("red", 168)]]),
        "red": encoder.encode(make_example("red"), [[face("red")]]),
        "blue": encoder.encode(make_example("blue"), [[face("blue")]]),
    }
    examples = [prompt.example for prompt in prompts.values()]
    completion_ids = encoder.completion_ids("Tell me more.")

    def sensitivity(examples):
        return frame_sensitivity(tiny, examples, lambda example: prompts[example.id], lambda example: completion_ids)

    result = sensitivity(examples)
    assert (result["instance"], result["frames_of"]) == ("blue", "red")
    assert result["nats_per_token"] > 1e-4
    assert sensitivity(examples[:3]) is None
