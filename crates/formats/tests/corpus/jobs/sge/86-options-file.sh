#!/bin/bash
#$ -@ common.opts
#$ -N with_file
./run
